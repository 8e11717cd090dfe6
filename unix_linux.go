package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// dialUnix connects to a socket file of the sandbox. The name is resolved by
// the kernel in the sandbox's root; the connection is made through the
// descriptor, so that what is renamed meanwhile does not matter.
func (b *box) dialUnix(ctx context.Context, name string) (net.Conn, error) {
	fd, err := b.openPath(name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", fd))
		if !errors.Is(err, unix.EAGAIN) {
			return conn, err
		}
		// The server's backlog is full (unix(7)).
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (b *box) openPath(name string, flags int) (int, error) {
	root := b.world.Root()
	if root == nil {
		return -1, os.ErrClosed
	}
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	fd, err := unix.Openat2(int(root.Fd()), name, &how)
	if err != nil {
		return -1, &os.PathError{Op: "openat2", Path: name, Err: err}
	}
	return fd, nil
}

// listenUnix listens at a new socket file of the sandbox, which everybody in it
// may connect to. It is removed when the Listener is closed.
func (b *box) listenUnix(ctx context.Context, name string) (net.Listener, error) {
	dir, base := path.Split(path.Clean("/" + name))
	fd, err := b.openPath(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	at := fmt.Sprintf("/proc/self/fd/%d/%s", fd, base)
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", at)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = unix.Fchmodat(fd, base, 0o666, 0)
	u := &unixListener{Listener: l, dir: fd, base: base, list: &b.unix}
	return u, b.unix.add(u)
}

// unixListeners are the ones of a box.
type unixListeners struct {
	mu     sync.Mutex
	closed bool
	open   map[*unixListener]struct{}
}

func (s *unixListeners) add(l *unixListener) error {
	s.mu.Lock()
	closed := s.closed
	if !closed {
		if s.open == nil {
			s.open = map[*unixListener]struct{}{}
		}
		s.open[l] = struct{}{}
	}
	s.mu.Unlock()
	if closed {
		return errors.Join(os.ErrClosed, l.Close())
	}
	return nil
}

func (s *unixListeners) close() error {
	s.mu.Lock()
	s.closed = true
	open := s.open
	s.open = nil
	s.mu.Unlock()
	var errs []error
	for l := range open {
		errs = append(errs, ignoreClosed(l.Close()))
	}
	return errors.Join(errs...)
}

// A unixListener removes its file with itself.
type unixListener struct {
	net.Listener
	once sync.Once
	dir  int
	base string
	list *unixListeners
}

// Close closes the listener and removes its socket file.
func (l *unixListener) Close() error {
	err := os.ErrClosed
	l.once.Do(func() {
		err = l.Listener.Close()
		_ = unix.Unlinkat(l.dir, l.base, 0) // the sandbox may have removed it
		unix.Close(l.dir)
		l.list.mu.Lock()
		delete(l.list.open, l)
		l.list.mu.Unlock()
	})
	return err
}
