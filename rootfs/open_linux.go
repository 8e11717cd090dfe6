package rootfs

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Open makes the mount and returns a descriptor of it (O_PATH, close-on-exec). The mount is attached nowhere: Attach
// does that, as does move_mount(2) in any mount namespace, once; open_tree(2) copies it; and it can be used through the
// descriptor. It ends with its last user, so with the descriptor, which the caller closes, if it was not attached.
//
// A fault in o is a FieldError, all faults joined, before anything is made; an UnsupportedError says what this kernel,
// file system or user can't do; a ReadOnlyError that Upper can't take changes. Before it returns Open tries that a file
// can be made. Everything else is an Error. When ctx ends Open stops between two system calls; one that hangs, in a file
// server that does not answer, it can't interrupt.
func (o Overlay) Open(ctx context.Context) (*os.File, error) {
	fd, err := o.open(ctx)
	if err != nil {
		return nil, &Error{"overlay", "", err}
	}
	return os.NewFile(uintptr(fd), "overlay"), nil
}

func (o *Overlay) open(ctx context.Context) (int, error) {
	s, err := o.sources(ctx)
	if err != nil {
		return -1, err
	}
	defer s.close()
	direct, err := layersByDescriptor.have()
	if err != nil {
		return -1, privileged("overlay mount", err)
	}
	mount := s.mountPrivate
	if direct {
		mount = s.mountDirect
	}
	fd, err := mount(ctx, o)
	if err != nil {
		return -1, s.refused(err)
	}
	if o.writable() {
		if err := probeWrite(fd); err != nil {
			unix.Close(fd)
			return -1, &ReadOnlyError{s.upper.name, err}
		}
	}
	return fd, nil
}

// sources are what a mount is made from.
type sources struct {
	lower []int // detached mounts, bottom first
	upper *upper
}

// close gives the descriptors back, and with them the mounts.
func (s *sources) close() {
	fds := s.lower
	if s.upper != nil && s.upper.own >= 0 {
		fds = append(fds, s.upper.own)
		s.upper.own = -1
	}
	s.stack(fds)
	s.upper.close()
	closeAll(fds...)
}

// stack puts each mount on top of the one before. The end of a detached mount waits for an RCU grace period (0.1 to
// 0.2 ms; 500 of them up to 100), that of a tree of mounts for one in all. The mount that was made from them does not
// notice: it has clones of its own. Kernels before 6.15 refuse to (EINVAL), and there they are part of a tree already. What is not private must not be mounted on.
func (s *sources) stack(fds []int) {
	if private, err := setMountAttr.have(); !private || err != nil {
		return
	}
	for i := 1; i < len(fds); i++ {
		_ = unix.MoveMount(fds[i], "", fds[i-1], "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	}
}

// sources opens the directories that o names; it reports all faults among them.
func (o *Overlay) sources(ctx context.Context) (_ *sources, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.UserNS != nil {
		if err := checkUserNS(o.UserNS); err != nil {
			return nil, err
		}
	}
	s := &sources{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	var f faults
	for i, dir := range o.Lower {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		fd, err := cloneLayer(dir, o.UserNS)
		if err == nil {
			s.lower = append(s.lower, fd)
		} else if fault := asField(lowerField(i), dir, err); fault != nil {
			f = append(f, fault)
		} else {
			return nil, &Error{"open layer", dir, err}
		}
	}
	if s.upper, err = o.openUpper(ctx, &f); err != nil {
		return nil, err
	}
	if err := f.join(); err != nil {
		return nil, err
	}
	if s.upper == nil {
		return s, s.padLower()
	}
	return s, s.fillOwn(o)
}

// padLower adds an empty layer below a single one: without an upper layer overlayfs wants two. (A plain bind mount would
// do, but it would show the layer's whiteouts.)
func (s *sources) padLower() error {
	if len(s.lower) > 1 {
		return nil
	}
	empty, err := newTmpfs(4<<10, 1)
	if err != nil {
		return &Error{"mount", "tmpfs", err}
	}
	s.lower = append([]int{empty}, s.lower...)
	return nil
}

// fillOwn makes the directories of an upper layer in a file system of its own.
func (s *sources) fillOwn(o *Overlay) error {
	if !o.ownUpper() {
		return nil
	}
	var top unix.Stat_t
	if err := unix.Fstat(s.lower[len(s.lower)-1], &top); err != nil {
		return &Error{"stat", o.Lower[len(o.Lower)-1], err}
	}
	if err := s.upper.fill(&top); err != nil || o.Fill == nil {
		return err
	}
	return o.Fill(fmt.Sprintf("/proc/self/fd/%d", s.upper.dir))
}
