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

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// dialUnix connects to a socket file of the sandbox. The name is resolved by
// the kernel in the sandbox's root; the connection is made through the
// descriptor, so that what is renamed meanwhile does not matter.
func (b *box) dialUnix(ctx context.Context, name string) (net.Conn, error) {
	fd, err := b.openPath(name, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", fd))
		if !errors.Is(err, unix.EAGAIN) {
			return conn, unixError("dial", name, err)
		}
		// The server's backlog is full (unix(7)).
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return nil, unixError("dial", name, context.Cause(ctx))
		}
	}
}

// unixError names the socket as the caller knows it.
func unixError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	var e *net.OpError
	if errors.As(err, &e) {
		err = e.Err
	}
	return &net.OpError{Op: op, Net: "unix", Addr: unixAddr(name), Err: err}
}

func unixAddr(name string) *net.UnixAddr { return &net.UnixAddr{Name: name, Net: "unix"} }

func (b *box) openPath(name string, flags int, resolve uint64) (fd int, err error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: resolve | unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	err = useFile(b.world.Root(), func(root int) error {
		for range renameTries {
			// A rename or mount anywhere on the machine meanwhile is EAGAIN where "..", as
			// in a link, could have led out of the root (openat2(2)).
			if fd, err = unix.Openat2(root, name, &how); err != unix.EAGAIN && err != unix.EINTR {
				break
			}
		}
		return err
	})
	if err != nil {
		return -1, &os.PathError{Op: "openat2", Path: name, Err: err}
	}
	return fd, nil
}

// renameTries bounds how long somebody who renames all the time can keep us busy.
const renameTries = 1000

// useFile calls f with the descriptor of a World's file, which Close can't take
// away, nor anybody reuse, in the meantime. The file is nil once the World is closed.
func useFile(file *os.File, f func(fd int) error) error {
	if file == nil {
		return os.ErrClosed
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := raw.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return os.ErrClosed
	}
	return err
}

// listenUnix listens at a new socket file of the sandbox, which everybody in it
// may connect to. It is removed when the Listener is closed.
func (b *box) listenUnix(ctx context.Context, name string) (net.Listener, error) {
	dir, base := path.Split(path.Clean("/" + name))
	fd, err := b.openPath(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	l, err := b.bindUnix(ctx, fd, base)
	if err != nil {
		unix.Close(fd)
		return nil, unixError("listen", name, err)
	}
	u := &unixListener{Listener: l, name: name, dir: fd, base: base, list: &b.unix}
	if err := b.unix.add(u); err != nil {
		return nil, err
	}
	return u, nil
}

// bindUnix makes the socket file as the sandbox's root: that of the host has no
// id that a file system of the sandbox's could write down (EOVERFLOW). Its mode
// is right from its birth, for a later chmod(2) could meet a symbolic link that
// a command put in its place.
func (b *box) bindUnix(ctx context.Context, dir int, base string) (net.Listener, error) {
	if base == "" || len(base) >= maxSocketName {
		return nil, os.NewSyscallError("bind", unix.EINVAL)
	}
	user := -1
	err := useFile(b.world.UserNS(), func(fd int) (err error) {
		user, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer unix.Close(user)
	addr := append([]byte{unix.AF_UNIX, 0}, base+"\x00"...) // both architectures are little-endian
	fds, _, err := spawn.Run(ctx, func(p *spawn.Program) {
		ns, at := p.Input(user), p.Input(dir)
		p.EnterUserNS(ns)
		p.SetIDs(spawn.IDs{UID: b.user.ids.UIDs[0].Inside, GID: b.user.ids.GIDs[0].Inside, KeepGroups: true})
		p.Do("fchdir", "", unix.SYS_FCHDIR, at)
		p.Do("umask", "", unix.SYS_UMASK, 0)
		s := p.Do("socket", "", unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		p.Do("fchmod", "", unix.SYS_FCHMOD, s, 0o666)
		p.Do("bind", "", unix.SYS_BIND, s, p.Bytes(addr), len(addr))
		p.Send(s)
	})
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fds[0]), "socket")
	defer f.Close()
	if err = unix.Listen(fds[0], unix.SOMAXCONN); err == nil {
		var l net.Listener
		if l, err = net.FileListener(f); err == nil {
			l.(*net.UnixListener).SetUnlinkOnClose(false) // its name means nothing outside
			return l, nil
		}
	}
	_ = unix.Unlinkat(dir, base, 0)
	return nil, err
}

// maxSocketName is the size of sun_path (unix(7)). Only the last element of a
// path must fit, with its final NUL.
const maxSocketName = 108

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
	name string
	once sync.Once
	dir  int
	base string
	list *unixListeners
}

// Addr returns the address as Listen was given it.
func (l *unixListener) Addr() net.Addr { return unixAddr(l.name) }

// Close closes the listener and removes its socket file.
func (l *unixListener) Close() error {
	err := error(net.ErrClosed)
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
