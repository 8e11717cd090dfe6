package rootfs

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// Older kernels want every layer by path, and attached in the caller's mount namespace. So a child attaches them in a
// mount namespace of its own, which ends with it, and mounts there; the mount itself outlives that (overlayfs keeps
// private clones of its layers). All options of mount(2) together have one page, one string of fsconfig(2) has 256 bytes:
// hence the names, which are short, and relative to a tmpfs that the child makes its working directory.
const (
	privateTree   = "t" // where the file system of Upper and Work is attached
	privateUpper  = "u" // symbolic links into it
	privateWork   = "w"
	privateTarget = "m"
)

// mountPrivate is mountDirect for kernels before 6.15.
func (s *sources) mountPrivate(ctx context.Context, o *Overlay) (int, error) {
	base, tree, err := s.scaffold(o)
	defer closeAll(base, tree)
	if err != nil {
		return -1, err
	}
	options := s.privateOptions(o)
	fds, _, err := spawn.Run(ctx, func(p *spawn.Program) { s.privateProgram(p, base, tree, options, o.flags()) })
	if err != nil {
		return -1, err
	}
	return fds[0], nil
}

func (s *sources) privateProgram(p *spawn.Program, base, tree int, options string, flags int) {
	here := int(unix.AT_FDCWD)
	attach := func(fd spawn.Ref, at string) {
		p.Do("move_mount", at, unix.SYS_MOVE_MOUNT, fd, "", here, at, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	dir := p.Input(base)
	var lower []spawn.Ref
	for _, fd := range s.lower {
		lower = append(lower, p.Input(fd))
	}
	var upperTree spawn.Ref
	if tree >= 0 {
		upperTree = p.Input(tree)
	}
	p.Do("unshare", "mount namespace", unix.SYS_UNSHARE, unix.CLONE_NEWNS)
	// Before anything is attached: on a shared mount it would appear in the namespaces of others (mount_namespaces(7)).
	p.Do("mount", "/", unix.SYS_MOUNT, 0, "/", 0, unix.MS_REC|unix.MS_PRIVATE, 0)
	attach(dir, "/") // over the root, which is the one directory that is surely there; reached by its descriptor
	p.Do("fchdir", "tmpfs", unix.SYS_FCHDIR, dir)
	for i, fd := range lower {
		attach(fd, fmt.Sprint(i))
	}
	if tree >= 0 {
		attach(upperTree, privateTree)
	}
	p.Do("mount", "overlay", unix.SYS_MOUNT, "overlay", privateTarget, "overlay", flags, options)
	p.Send(p.Do("open_tree", privateTarget, unix.SYS_OPEN_TREE, here, privateTarget, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC))
}

// scaffold returns the tmpfs with the mount points and, if there is an upper layer, the mount that it is in.
func (s *sources) scaffold(o *Overlay) (base, tree int, err error) {
	tree = -1
	if base, err = newTmpfs(4<<20, MaxLower+16); err != nil {
		return -1, -1, &Error{"mount", "tmpfs", err}
	}
	names := []string{privateTarget, privateTree}
	for i := range s.lower {
		names = append(names, fmt.Sprint(i))
	}
	for _, name := range names {
		if err := unix.Mkdirat(base, name, 0o700); err != nil {
			return base, -1, &Error{"mkdir", name, err}
		}
	}
	if s.upper == nil {
		return base, -1, nil
	}
	common, upper, work, err := s.upper.paths(o)
	if err != nil {
		return base, -1, err
	}
	if s.upper.own >= 0 {
		tree, err = unix.Dup(s.upper.own)
		unix.CloseOnExec(tree)
	} else {
		tree, err = unix.OpenTree(unix.AT_FDCWD, common, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	}
	if err != nil {
		return base, -1, &Error{"clone mount", common, err}
	}
	for name, path := range map[string]string{privateUpper: upper, privateWork: work} {
		if err := unix.Symlinkat(filepath.Join(privateTree, path), base, name); err != nil {
			return base, tree, &Error{"symlink", path, err}
		}
	}
	return base, tree, nil
}

// paths returns the directory that Upper and Work have in common and their paths in it. Both are on one mount (openUpper
// saw to that), and so is every directory between them.
func (u *upper) paths(o *Overlay) (common, upper, work string, err error) {
	if u.own >= 0 {
		return "", "upper", "work", nil
	}
	if upper, err = filepath.EvalSymlinks(o.Upper); err != nil {
		return "", "", "", err
	}
	if work, err = filepath.EvalSymlinks(o.Work); err != nil {
		return "", "", "", err
	}
	for common = filepath.Dir(upper); !inside(work, common); {
		common = filepath.Dir(common)
	}
	if upper, err = filepath.Rel(common, upper); err == nil {
		work, err = filepath.Rel(common, work)
	}
	return common, upper, work, err
}

func (s *sources) privateOptions(o *Overlay) string {
	names := make([]string, len(s.lower))
	for i := range s.lower { // the kernel wants the topmost first
		names[len(names)-1-i] = fmt.Sprint(i)
	}
	opts := []string{"lowerdir=" + strings.Join(names, ":")}
	pairs := overlayOptions(o)
	for i := 0; i < len(pairs); i += 2 {
		opts = append(opts, pairs[i]+"="+pairs[i+1])
	}
	if o.writable() {
		opts = append(opts, "upperdir="+privateUpper, "workdir="+privateWork)
		if !o.Sync {
			opts = append(opts, "volatile")
		}
	}
	return strings.Join(opts, ",")
}

// flags are those of the mount, MS_….
func (o *Overlay) flags() (flags int) {
	if !o.Devices {
		flags |= unix.MS_NODEV
	}
	if !o.SetUID {
		flags |= unix.MS_NOSUID
	}
	if !o.writable() {
		flags |= unix.MS_RDONLY
	}
	return flags
}

func closeAll(fds ...int) {
	for _, fd := range fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
