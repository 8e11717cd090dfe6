package cgroup

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// waiter waits for the kernel's notice that files of a group have changed: an epoll of its own, which for its part waits
// in Go's poller. Neither a thread nor a goroutine waits for it, only the caller, and it takes no inotify instance, of
// which a user has 128.
type waiter struct {
	ctx    context.Context // ends with that of the caller and with the group
	cancel context.CancelCauseFunc
	g      *Group
	fd     int // of epoll, whose Fd would make it blocking
	epoll  *os.File
	files  []int
	stop   func() bool
}

// newWaiter returns one that waits no longer than ctx and g last.
func (g *Group) newWaiter(ctx context.Context, op string) (*waiter, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	_ = unix.SetNonblock(fd, true) // What makes os.NewFile put it into the poller.
	w := &waiter{g: g, fd: fd, epoll: os.NewFile(uintptr(fd), "epoll")}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.stop = context.AfterFunc(w.ctx, w.wake)
	if !g.addWaiter(w) {
		w.close()
		return nil, errClosed(op, g.rel)
	}
	return w, nil
}

// addWaiter has g end the wait of w when it ends; it is false if it has.
func (g *Group) addWaiter(w *waiter) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiters == nil {
		g.waiters = map[*waiter]struct{}{}
	}
	g.waiters[w] = struct{}{}
	return !g.closed
}

// wake ends the wait now.
func (w *waiter) wake() { _ = w.epoll.SetReadDeadline(time.Unix(1, 0)) }

func (w *waiter) close() {
	w.g.mu.Lock()
	delete(w.g.waiters, w)
	w.g.mu.Unlock()
	w.stop()
	w.cancel(nil)
	_ = w.epoll.Close()
	for _, fd := range w.files {
		_ = unix.Close(fd)
	}
}

// add waits for changes of a file that the kernel notifies of: POLLPRI, as poll(2) has it for cgroup.events.
func (w *waiter) add(h *hierarchy, path string) error {
	fd, err := h.openFile(path, unix.O_RDONLY)
	if err != nil {
		return err
	}
	return w.addFD(fd, unix.EPOLLPRI)
}

// addFD takes fd over.
func (w *waiter) addFD(fd int, events uint32) error {
	w.files = append(w.files, fd)
	// Edge-triggered: what has happened is not to be read off to be told anew.
	e := unix.EpollEvent{Events: events | unix.EPOLLET, Fd: int32(fd)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(w.fd, unix.EPOLL_CTL_ADD, fd, &e))
}

// until calls done at once and after each notice until it says so; with whether there was one.
func (w *waiter) until(done func(notice bool) (bool, error)) error {
	raw, err := w.epoll.SyscallConn()
	if err != nil {
		return err
	}
	var derr error
	err = raw.Read(func(fd uintptr) bool {
		var events [8]unix.EpollEvent
		// Fetched first: a notice that comes while done looks is not lost.
		n, _ := unix.EpollWait(int(fd), events[:], 0)
		var ok bool
		ok, derr = done(n > 0)
		return ok || derr != nil || w.ctx.Err() != nil
	})
	switch {
	case w.ctx.Err() != nil:
		return context.Cause(w.ctx)
	case derr != nil:
		return derr
	}
	return err
}
