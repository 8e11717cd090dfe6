package world

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// A Mount is put into the root of a World, beside what every World has.
type Mount struct {
	Target string // an absolute, clean path
	// Dir: a directory is mounted, else a file.
	Dir      bool
	Writable bool
	// Covered: what lies at Target is wanted (World.Covered).
	Covered bool
	// PerRun: it is made anew for each command, of Tmpfs or File. Only its place is the World's.
	PerRun bool
	// One of these says what.
	Tree   *os.File // a mount made outside, with its attributes; the caller's
	Source string   // what lies there as this program sees it, with all that is mounted below
	Layers []string // directories, the bottom first: what they show together, read-only
	Tmpfs  []string // options of a new tmpfs, as key, value
	File   *File    // a file in memory
}

// A File is made for a Mount.
type File struct {
	Data     []byte
	Mode     int
	UID, GID int // inside
}

// attrs are those of the mount.
func (e *Mount) attrs() int {
	if e.Writable {
		return noSuid | noDev
	}
	return noSuid | noDev | readOnly
}

// checkExtra says what of it this kernel can't do: of what is mounted below a Source mount(2) makes nothing read-only.
func (s *Spec) checkExtra() error {
	f := features.mountSetattr
	for _, e := range s.Mounts {
		if e.Source != "" && !e.Writable && !f.supported() {
			return &Unsupported{What: "a read-only bind mount of " + e.Source, Remedy: "Linux " + f.version + " or newer"}
		}
	}
	return nil
}

// openExtra takes what lies outside, while that can be seen.
func (s *Spec) openExtra(m *mounter, trees []spawn.Ref) (refs []spawn.Ref) {
	for i, e := range s.Mounts {
		ref := trees[i]
		if e.Source != "" {
			ref = m.bind(e.Source)
		}
		if e.Layers != nil {
			ref = m.union(e.Layers)
		}
		refs = append(refs, ref)
	}
	return refs
}

// places makes the places of the mounts, where the root can still be written to.
func (s *Spec) places(m *mounter) {
	for i := range s.Mounts {
		s.Mounts[i].place(m)
	}
}

// place makes the target and what is above it, as far as they are not there. Whether they are shows when it is mounted.
func (e *Mount) place(m *mounter) {
	for i, c := range e.Target {
		if c == '/' && i > 0 {
			m.mkdir(e.Target[:i], 0o755)
		}
	}
	if e.Dir {
		m.mkdir(e.Target, 0o755)
		return
	}
	fd := m.Try("create", e.Target, unix.SYS_OPENAT, m.root, rel(e.Target), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	m.Try("close", e.Target, unix.SYS_CLOSE, fd)
}

// attachExtra mounts all, those above before those below, and returns what lies below those that are Covered.
func (s *Spec) attachExtra(m *mounter, refs []spawn.Ref) (covered []spawn.Ref) {
	for i := range s.Mounts {
		e := &s.Mounts[i]
		e.place(m) // what was mounted meanwhile may cover what was made
		if e.Covered {
			covered = append(covered, m.open(e.Target, unix.O_DIRECTORY))
		}
		switch {
		case e.PerRun:
		case e.Tmpfs != nil || e.File != nil:
			e.attachNew(m, m)
		default:
			m.attach(refs[i], e.Target)
		}
		if e.Source != "" {
			m.protect(e.Target, e.attrs())
		}
	}
	return covered
}

// ownExtra mounts what is made anew for a command, in its own mount namespace. Other commands may be at work on the root:
// so it looks there only at places, and makes none but in what is this command's alone.
func (s *Spec) ownExtra(p *spawn.Program, c *Command) {
	root := &mounter{Program: p, root: spawn.NoRef}
	own := map[string]spawn.Ref{} // tmpfs, by their targets
	var locked []string           // of those, that are to be read-only
	for i := range s.Mounts {
		e := s.Mounts[i]
		if !e.PerRun {
			continue
		}
		if root.root == spawn.NoRef {
			root.root = p.Do("open", "/", unix.SYS_OPENAT, at, "/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		}
		target, m := e.Target, root
		if in, name, ok := findOwn(p, own, e.Target); ok {
			e.Target, m = name, in
			e.place(m)
		}
		if e.Tmpfs != nil && !e.Writable {
			e.Writable = true // to us
			locked = append(locked, target)
		}
		if ref := e.attachNew(root, m); e.Tmpfs != nil {
			own[target] = ref
		}
	}
	for _, f := range c.Written {
		if in, name, ok := findOwn(p, own, f.Name); ok {
			f.write(in, name, c.IDs)
		}
	}
	for _, target := range locked {
		root.lock(own[target], target)
	}
}

// findOwn finds the innermost of the tmpfs that a path lies in, and its name there.
func findOwn(p *spawn.Program, own map[string]spawn.Ref, path string) (m *mounter, name string, ok bool) {
	best := ""
	for above := range own {
		if strings.HasPrefix(path, above+"/") && len(above) > len(best) {
			best = above
		}
	}
	if best == "" {
		return nil, "", false
	}
	return &mounter{Program: p, root: own[best]}, path[len(best):], true
}

// A WrittenFile is written for a command.
type WrittenFile struct {
	Name string
	Data []byte // must not be changed until the command has started
	Mode int
}

// write makes the file in m, which is the command's alone.
func (f *WrittenFile) write(m *mounter, name string, owner spawn.IDs) {
	for i, c := range name {
		if c == '/' && i > 0 {
			m.mkdir(name[:i], 0o755)
		}
	}
	fd := m.Do("create", f.Name, unix.SYS_OPENAT, m.root, rel(name), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if len(f.Data) > 0 {
		m.Do("fallocate", f.Name, unix.SYS_FALLOCATE, fd, 0, 0, len(f.Data)) // else a write of less would be none's fault
		m.Do("write", f.Name, unix.SYS_WRITE, fd, m.Pinned(f.Data), len(f.Data))
	}
	m.Do("chown", f.Name, unix.SYS_FCHOWN, fd, owner.UID, owner.GID)
	m.Do("chmod", f.Name, unix.SYS_FCHMOD, fd, f.Mode)
	m.Do("close", f.Name, unix.SYS_CLOSE, fd)
}

// attachNew makes what is in memory, and mounts it in m.
func (e *Mount) attachNew(root, m *mounter) (mount spawn.Ref) {
	if e.File != nil {
		mount = e.newFile(root)
	} else {
		mount = m.fs("tmpfs", e.attrs(), e.Tmpfs...)
	}
	m.attach(mount, e.Target)
	return mount
}

// newFile makes a detached mount of a file, in a tmpfs of its own that is nowhere afterwards.
func (e *Mount) newFile(root *mounter) spawn.Ref {
	const name = maskDir + "/f"
	f := e.File
	tmpfs := root.fs("tmpfs", e.attrs()&^readOnly, "mode", "0700")
	root.attach(tmpfs, maskDir)
	fd := root.Do("create", e.Target, unix.SYS_OPENAT, tmpfs, "f", unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, f.Mode)
	if len(f.Data) > 0 {
		root.Do("write", e.Target, unix.SYS_WRITE, fd, root.Bytes(f.Data), len(f.Data))
	}
	root.Do("chown", e.Target, unix.SYS_FCHOWN, fd, f.UID, f.GID)
	root.Do("chmod", e.Target, unix.SYS_FCHMOD, fd, f.Mode)
	root.Do("close", e.Target, unix.SYS_CLOSE, fd)
	if !e.Writable {
		root.protectOnly(maskDir, e.attrs())
	}
	file := root.Do("open_tree", e.Target, unix.SYS_OPEN_TREE, at, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	root.Do("umount", maskDir, unix.SYS_UMOUNT2, maskDir, unix.MNT_DETACH)
	return file
}

// open opens what is mounted, as a place.
func (e *Mount) open(p *spawn.Program) spawn.Ref {
	flags := unix.O_PATH | unix.O_CLOEXEC
	if e.Dir {
		flags |= unix.O_DIRECTORY
	}
	return p.Do("open", e.Target, unix.SYS_OPENAT, at, e.Target, flags, 0)
}
