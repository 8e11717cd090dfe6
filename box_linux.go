package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/seed-5a9fb6e0/sandbox/cgroup"
	"github.com/seed-5a9fb6e0/sandbox/image"
	"github.com/seed-5a9fb6e0/sandbox/internal/seccomp"
	"github.com/seed-5a9fb6e0/sandbox/internal/store"
	"github.com/seed-5a9fb6e0/sandbox/internal/world"
	"github.com/seed-5a9fb6e0/sandbox/netns"
	"github.com/seed-5a9fb6e0/sandbox/rootfs"
)

// A box is a sandbox that was built: what the kernel and the store have of it.
type box struct {
	opts    *Options
	name    string
	store   *Store
	image   *image.Image // nil without one
	volumes []*os.File   // that it has mounted, locked
	made    map[string]*newVolume
	release []func() // give the layers of images back
	entry   *store.Entry
	user    *userNS
	caps    world.CapSet
	filter  *seccomp.Filter // nil: none
	notify  struct {        // of Security.Notify
		filter *seccomp.Filter // nil: none
		names  map[int32]string
	}
	group *cgroup.Group // bounds all commands together; nil: nothing does
	world *world.World
	net   *netns.Namespace
	upper string // the directory to be removed, "" for none
	// changes is the upper directory where that is in a file system of its own (Limits.Disk), for root; else nil.
	changes *os.File
	held    Applied

	groupsMu sync.Mutex
	groups   bool // the store's cgroups are in use by this box

	logs boxLogs

	unix unixListeners

	users accountCache
}

// newBox builds what o asks for, or nothing.
func newBox(ctx context.Context, o *Options) (_ *box, err error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	b := &box{opts: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.caps, b.filter, err = o.Security.resolve(); err != nil {
		return nil, err
	}
	if n := o.Security.Notify; n != nil {
		if b.notify.filter, b.notify.names, err = seccomp.Notify(n.Calls); err != nil {
			return nil, err
		}
	}
	if b.store, err = o.store(); err != nil {
		return nil, err
	}
	if o.Image != "" {
		if b.image, err = b.pull(ctx, o.Image); err != nil {
			return nil, err
		}
	}
	if b.user, err = b.store.users.take(ctx, b.store, o); err != nil {
		return nil, err
	}
	if err := b.record(); err != nil {
		return nil, err
	}
	if err := b.limit(); err != nil {
		return nil, err
	}
	if err := b.build(ctx); err != nil {
		return nil, err
	}
	if ns := b.world.NetNS(); ns != nil {
		b.net, err = netns.Open(ns, b.world.UserNS())
	} else {
		b.net = netns.Own()
	}
	b.held = b.applied()
	b.store.users.refill(b.store, o)
	return b, err
}

// pull gets an image, and keeps its layers for as long as they are mounted.
func (b *box) pull(ctx context.Context, ref string) (*image.Image, error) {
	for {
		img, err := b.store.images.Pull(ctx, ref, b.opts.Pull)
		if err != nil {
			return nil, err
		}
		// Between the two its reference may have been removed, and then its layers.
		release, err := b.store.images.Hold(ctx, img)
		if err == nil {
			b.release = append(b.release, release)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return img, err
		}
	}
}

// record notes the sandbox in the store, before the kernel has anything of it.
func (b *box) record() error {
	b.name = b.opts.Name
	if b.name == "" {
		b.name = store.NewName()
	}
	r := store.Record{Name: b.name, Labels: b.opts.Labels, Block: b.user.base()}
	if b.image != nil || b.opts.Rootfs != "" {
		var err error
		if r.Upper, err = b.ownDir(); err != nil {
			return err
		}
	}
	if b.store.tree() != nil {
		r.Cgroup, r.Parent = b.store.state.Owner(), b.store.options.cgroupParent
	}
	entry, err := b.store.state.Create(r)
	if errors.Is(err, store.ErrDead) {
		// Its program died: clean up after it, and take the name over.
		if err = b.store.state.RecoverName(context.Background(), b.name, recoverRecord); err == nil {
			entry, err = b.store.state.Create(r)
		}
	}
	b.entry = entry
	if err == nil {
		b.upper = r.Upper
	}
	return err
}

// ownDir is the path of the directory that the sandbox may have in the store. Its name says whose it is: Recover goes by that.
func (b *box) ownDir() (string, error) {
	dir, err := b.store.state.Sub(store.Sandboxes)
	return filepath.Join(dir, b.store.state.Owner()+"-"+b.name), err
}

// limit makes the cgroup of the sandbox, where its Options bound the sum.
func (b *box) limit() (err error) {
	l := b.opts.Limits.cgroup()
	if l.IsZero() {
		return nil
	}
	if err := b.useGroups(); err != nil {
		return err
	}
	// A prefix: the name may be that of a file of the kernel's ("pids", "memory.max").
	b.group, err = b.store.tree().New("box-"+b.name, l)
	return err
}

// update changes the cgroup of the sandbox.
func (b *box) update(l Limits) error {
	switch {
	case b.group != nil:
		return b.group.Update(l.cgroup())
	case l.cgroup().IsZero():
		return nil
	}
	return &world.Unsupported{What: "a limit of the sandbox's cgroup", Why: errors.New("it was built without one"),
		Remedy: "name a limit of that kind in the Options, so that its commands start in one"}
}

// useGroups says that the box uses the store's cgroups from now on, or why it can't.
func (b *box) useGroups() error {
	b.groupsMu.Lock()
	defer b.groupsMu.Unlock()
	if !b.groups && !b.store.useGroups() {
		return b.store.noTree
	}
	b.groups = true
	return nil
}

func (b *box) build(ctx context.Context) error {
	hostname := b.opts.Hostname
	if hostname == "" {
		hostname = b.name
	}
	spec := world.Spec{
		Namespaces: b.user.ns, Map: b.user.ids, Hostname: hostname,
		ReadOnly: b.opts.ReadOnly, Disk: b.opts.Limits.Disk, Devices: b.opts.Security.Devices, HidePID: b.opts.Security.HidePID, Nesting: b.opts.Security.Nesting,
		Hosts: hostsFile(hostname, b.opts.Network.Mode), Resolv: resolvFile(b.opts.Network.Mode),
	}
	mounts, unmount, err := b.mounts(ctx)
	if err != nil {
		return err
	}
	defer unmount()
	spec.Mounts = mounts
	root, done, err := b.root(ctx, &spec)
	if err != nil {
		return err
	}
	defer done()
	spec.Root = root
	if _, host := root.(world.HostRoot); host && b.opts.Network.Mode != netns.Host && spec.Devices == nil && mounts == nil {
		// (The kernel mounts no /sys without a network namespace.)
		if spec.Base, err = b.store.base.get(ctx); err != nil {
			return err
		}
	}
	if b.world, err = world.Build(ctx, spec); err != nil {
		return err
	}
	b.user.ns = nil // the world's
	return b.fillVolumes(ctx)
}

// root is what the root file system is made of; done is called once it is mounted.
func (b *box) root(ctx context.Context, spec *world.Spec) (_ world.Root, done func(), err error) {
	lower := b.layers()
	if lower == nil {
		return world.HostRoot{}, func() {}, nil
	}
	if err := os.Mkdir(b.upper, 0o700); err != nil {
		return nil, nil, err
	}
	if len(lower) == 0 { // an image without a file
		lower = []string{filepath.Join(b.upper, "empty")}
		if err := os.Mkdir(lower[0], 0o755); err != nil {
			return nil, nil, err
		}
	}
	o := rootfs.Overlay{Lower: lower, Upper: filepath.Join(b.upper, "upper"), Work: filepath.Join(b.upper, "work")}
	disk := b.opts.Limits.Disk
	if disk > 0 && !b.user.outside() {
		return world.UnionRoot{Lower: o.Lower, Tmpfs: disk}, func() {}, nil
	}
	if !b.user.outside() {
		for _, dir := range []string{o.Upper, o.Work} {
			if err := os.Mkdir(dir, 0o755); err != nil {
				return nil, nil, err
			}
		}
		return world.UnionRoot{Lower: o.Lower, Upper: o.Upper, Work: o.Work}, func() {}, spec.Skeleton(o.Upper, os.Geteuid())
	}
	o.UserNS = b.user.ns.User
	fill := func(upper string) error {
		return errors.Join(b.rootAttributes(upper), spec.Skeleton(upper, int(b.user.base())))
	}
	if disk > 0 {
		o.Upper, o.Work = "", ""
		o.Fill = func(upper string) (err error) {
			if err = fill(upper); err == nil {
				b.changes, err = os.Open(upper)
			}
			return err
		}
		if disk <= memoryDisk {
			o.TmpfsSize = disk
		} else {
			o.File, o.FileSize = filepath.Join(b.upper, "changes"), disk
		}
	} else if err := o.MakeUpper(ctx); err != nil {
		return nil, nil, err
	} else if err := fill(o.Upper); err != nil {
		return nil, nil, err
	}
	f, err := o.Open(ctx)
	if err != nil {
		return nil, nil, err
	}
	return world.UnionRoot{Mount: f}, func() { f.Close() }, nil
}

// memoryDisk is the largest Limits.Disk of root's that is memory: making a file system in a file takes some 20 ms.
const memoryDisk = 256 << 20

// rootAttributes gives the upper directory, which is "/" inside, what the image
// says of it.
func (b *box) rootAttributes(upper string) error {
	if b.image == nil {
		return nil
	}
	r := b.image.Root
	base := int(b.user.base())
	if err := os.Chown(upper, base+r.UID, base+r.GID); err != nil {
		return err
	}
	return os.Chmod(upper, r.Mode)
}

func (b *box) layers() (dirs []string) {
	if b.opts.Rootfs != "" {
		return []string{b.opts.Rootfs}
	}
	if b.image == nil {
		return nil
	}
	for _, l := range b.image.Layers {
		dirs = append(dirs, l.Dir)
	}
	if dirs == nil { // an image without any file
		dirs = []string{}
	}
	return dirs
}

func hostsFile(hostname string, mode netns.Mode) []byte {
	if mode == netns.Host {
		if b, err := os.ReadFile("/etc/hosts"); err == nil {
			return b
		}
	}
	return fmt.Appendf(nil, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t%s\n", hostname)
}

func resolvFile(mode netns.Mode) []byte {
	if mode == netns.Host {
		if b, err := os.ReadFile("/etc/resolv.conf"); err == nil {
			return b
		}
	}
	return []byte(world.NoNameServers)
}

func (b *box) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if network == "unix" && !strings.HasPrefix(addr, "@") {
		return b.dialUnix(ctx, addr)
	}
	return b.net.Dial(ctx, network, addr)
}

func (b *box) listen(ctx context.Context, network, addr string) (net.Listener, error) {
	if network == "unix" && !strings.HasPrefix(addr, "@") {
		return b.listenUnix(ctx, addr)
	}
	return b.net.Listen(ctx, network, addr)
}

// files is the root file system for the embedder, as the sandbox's root.
func (b *box) files() *rootfs.Root { return b.rootAt(b.world.Root()) }

// rootAt is a Root of another directory, for the sandbox's root.
func (b *box) rootAt(dir *os.File) *rootfs.Root {
	ids := b.user.ids
	return rootfs.NewRoot(dir, b.world.UserNS(), ids.UIDs[0].Inside, ids.GIDs[0].Inside)
}

// close takes down what there is of a box, built or not: the record goes last,
// so that a crash in between loses nothing.
func (b *box) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	errs := []error{b.unix.close()}
	if b.net != nil {
		errs = append(errs, b.net.Close())
	}
	if b.world != nil {
		errs = append(errs, b.world.Close())
	}
	if b.changes != nil {
		b.changes.Close()
	}
	if b.group != nil {
		b.group.Release()
	}
	if b.groups {
		errs = append(errs, b.store.releaseGroups(ctx))
	}
	errs = append(errs, b.closeLogs())
	if b.upper != "" {
		errs = append(errs, removeUpper(ctx, b.upper))
	}
	for _, release := range b.release {
		release()
	}
	errs = append(errs, b.closeVolumes(ctx))
	if err := errors.Join(errs...); err != nil {
		return err // the record stays: Recover goes on with it
	}
	if b.entry != nil {
		errs = append(errs, b.entry.Remove())
	}
	if b.user != nil {
		b.user.release()
	}
	return errors.Join(errs...)
}
