package sandbox

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/world"
	"github.com/seed-5a9fb6e0/sandbox/rootfs"
)

// mounts are those of Options.Mounts, those above before those below; done gives back what was opened for them.
func (b *box) mounts(ctx context.Context) (all []world.Mount, done func(), err error) {
	list := slices.Clone(b.opts.Mounts)
	slices.SortStableFunc(list, func(a, b rootfs.Mount) int {
		return cmp.Compare(strings.Count(a.Target, "/"), strings.Count(b.Target, "/"))
	})
	done = func() {
		for _, m := range all {
			if m.Tree != nil {
				m.Tree.Close()
			}
		}
	}
	for _, m := range list {
		e, err := b.mount(ctx, m)
		if err != nil {
			done()
			return nil, nil, err
		}
		all = append(all, e)
	}
	return all, done, nil
}

func (b *box) mount(ctx context.Context, m rootfs.Mount) (e world.Mount, err error) {
	e = world.Mount{Target: m.Target, Writable: m.Writable, PerRun: m.Scope == rootfs.PerRun}
	switch m.Type {
	case rootfs.Tmpfs:
		e.Dir, e.Tmpfs = true, m.TmpfsOptions()
	case rootfs.File:
		mode := m.Mode
		if mode == 0 {
			mode = 0o444
		}
		e.File = &world.File{Data: m.Data, Mode: int(mode.Perm()), UID: m.UID, GID: m.GID}
	case rootfs.Bind:
		info, err := os.Stat(m.Source)
		if err != nil {
			return e, err
		}
		e.Dir = info.IsDir()
		if !b.user.outside() {
			e.Source = m.Source
			return e, b.user.ownBind(m)
		}
		e.Tree, err = b.user.bind(ctx, m)
		return e, err
	case rootfs.Image:
		return b.imageMount(ctx, m, e)
	case rootfs.Volume:
		e.Dir = true
		f, err := b.volume(ctx, m.Source)
		if err != nil {
			return e, err
		}
		if v := b.made[m.Source]; v != nil && v.target == "" {
			v.target, e.Covered = m.Target, b.image != nil // who owns the files of other roots may be nobody inside
		}
		if !b.user.outside() {
			e.Source = f.Name()
			return e, nil
		}
		// Its files have the ids that they have inside, of whichever sandbox.
		tree := rootfs.Mount{Type: rootfs.Bind, Source: f.Name(), Target: m.Target, Writable: m.Writable}
		e.Tree, err = tree.OpenBind(ctx, b.user.ns.User)
		return e, err
	}
	return e, nil
}

// imageMount shows the tree of another image.
func (b *box) imageMount(ctx context.Context, m rootfs.Mount, e world.Mount) (world.Mount, error) {
	e.Dir = true
	img, err := b.pull(ctx, m.Source)
	if err != nil {
		return e, err
	}
	for _, l := range img.Layers {
		e.Layers = append(e.Layers, l.Dir)
	}
	switch {
	case e.Layers == nil: // an image without a file
		e.Tmpfs = rootfs.Mount{Size: 4096, Mode: 0o755}.TmpfsOptions()
	case b.user.outside():
		e.Tree, err = rootfs.Overlay{Lower: e.Layers, UserNS: b.user.ns.User}.Open(ctx)
		e.Layers = nil
	}
	return e, err
}

// bind makes the mount of a Bind in which the owner of its source is whom the sandbox's m.UID and m.GID are outside.
func (u *userNS) bind(ctx context.Context, m rootfs.Mount) (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Stat(m.Source, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: m.Source, Err: err}
	}
	if err := u.check(m.UID, m.GID); err != nil {
		return nil, err
	}
	base := int(u.base())
	users, err := world.NewNamespaces(ctx, world.IDMap{
		UIDs: []world.Range{{Inside: int(st.Uid), Outside: base + m.UID, Count: 1}},
		GIDs: []world.Range{{Inside: int(st.Gid), Outside: base + m.GID, Count: 1}},
	}, false)
	if err != nil {
		return nil, err
	}
	defer users.Close()
	return m.OpenBind(ctx, users.User)
}

// ownBind says whether the owner of a Bind is whom m says, where ids can't be mapped: as an ordinary user's own files are.
func (u *userNS) ownBind(m rootfs.Mount) error {
	if world.InsideID(u.ids.UIDs, os.Geteuid()) == m.UID && world.InsideID(u.ids.GIDs, os.Getegid()) == m.GID {
		return nil
	}
	return &world.Unsupported{What: "a Bind with other ids for an ordinary user", Remedy: "run as root, or leave UID and GID to be those of the user's own files",
		Why: fmt.Errorf("his own files are those of user %d and group %d inside", world.InsideID(u.ids.UIDs, os.Geteuid()), world.InsideID(u.ids.GIDs, os.Getegid()))}
}
