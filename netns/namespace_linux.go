package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// A Namespace is a network namespace that sockets can be opened in. All methods
// may be called concurrently.
type Namespace struct {
	mu        sync.Mutex
	user, net *os.File // user is nil where the caller's own privilege suffices, net for Own
	closed    bool
	listeners map[*listener]struct{}
}

// New makes a network namespace in which lo is up. It needs CAP_SYS_ADMIN, else
// the error is fs.ErrPermission.
func New(ctx context.Context) (*Namespace, error) {
	fds, _, err := spawn.Run(ctx, func(p *spawn.Program) {
		p.Do("unshare", "network namespace", unix.SYS_UNSHARE, unix.CLONE_NEWNET)
		spawn.LoopbackUp(p)
		p.Send(p.Do("open", "/proc/self/ns/net", unix.SYS_OPENAT, unix.AT_FDCWD, "/proc/self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0))
	})
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	return &Namespace{net: os.NewFile(uintptr(fds[0]), "network namespace")}, nil
}

// Open takes an existing network namespace: an open file of /proc/PID/ns/net or
// of a bind of it, and one of the user namespace that owns it, or nil where the
// caller is privileged over it. Both are duplicated.
func Open(netNS, userNS *os.File) (*Namespace, error) {
	n := &Namespace{}
	var err error
	if n.net, err = dup(netNS); err != nil {
		return nil, err
	}
	if userNS == nil {
		return n, nil
	}
	if n.user, err = dup(userNS); err != nil {
		n.net.Close()
		return nil, err
	}
	return n, nil
}

// Own returns the caller's own network namespace as a Namespace, with the same
// rules for addresses and Listeners as any other.
func Own() *Namespace { return &Namespace{} }

func dup(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("fcntl %q: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// Close lets the namespace go and closes the Listeners that Listen made.
// Connections belong to their callers; while one is open, the kernel keeps the
// namespace.
func (n *Namespace) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	listeners := n.listeners
	n.listeners = nil
	for _, f := range []*os.File{n.net, n.user} {
		if f != nil {
			f.Close()
		}
	}
	n.mu.Unlock()
	var errs []error
	for l := range listeners {
		if err := l.Listener.Close(); !errors.Is(err, net.ErrClosed) { // its owner may have been first
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Dial connects from inside the namespace, as net.Dialer.DialContext does.
// network is "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6" or "unix" (an
// abstract address, "@name", for those belong to the network namespace). The
// host of addr is an IP address; empty and "localhost" are the namespace's
// loopback. Other names are fs.ErrNotExist. The error is a *net.OpError.
func (n *Namespace) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := n.dial(ctx, network, addr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	return c, nil
}

func (n *Namespace) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	targets, kind, err := addresses(network, addr)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, to := range targets {
		f, err := n.socket(ctx, family(to), kind)
		if err != nil {
			return nil, err
		}
		if err = connect(ctx, f, to); err == nil {
			defer f.Close()
			return net.FileConn(f)
		}
		f.Close()
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// Listen listens inside the namespace, as net.ListenConfig does, for the
// networks "tcp", "tcp4", "tcp6" and "unix" (abstract addresses). The host of
// addr is as for Dial; "0.0.0.0" and "::" are all addresses of the namespace.
// Port 0 takes a free one. Close of the Namespace closes the Listener.
func (n *Namespace) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	l, err := n.listen(ctx, network, addr)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	return l, nil
}

func (n *Namespace) listen(ctx context.Context, network, addr string) (net.Listener, error) {
	targets, kind, err := addresses(network, addr)
	if err == nil && kind != unix.SOCK_STREAM {
		err = net.UnknownNetworkError(network)
	}
	if err != nil {
		return nil, err
	}
	f, err := n.socket(ctx, family(targets[0]), kind)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fd := int(f.Fd())
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err := unix.Bind(fd, targets[0]); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	return n.keep(l)
}

// A listener leaves its Namespace's list when it is closed.
type listener struct {
	net.Listener
	ns *Namespace
}

func (n *Namespace) keep(l net.Listener) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		l.Close()
		return nil, os.ErrClosed
	}
	k := &listener{l, n}
	if n.listeners == nil {
		n.listeners = map[*listener]struct{}{}
	}
	n.listeners[k] = struct{}{}
	return k, nil
}

// Close closes the listener.
func (l *listener) Close() error {
	l.ns.mu.Lock()
	delete(l.ns.listeners, l)
	l.ns.mu.Unlock()
	return l.Listener.Close()
}

// socket opens a socket inside the namespace.
func (n *Namespace) socket(ctx context.Context, family, kind int) (*os.File, error) {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil, os.ErrClosed
	}
	if n.net == nil {
		n.mu.Unlock()
		return ownSocket(ctx, family, kind)
	}
	netNS, err := dup(n.net)
	var userNS *os.File
	if err == nil && n.user != nil {
		userNS, err = dup(n.user)
	}
	n.mu.Unlock()
	if err != nil {
		return nil, err
	}
	defer netNS.Close()
	if userNS != nil {
		defer userNS.Close()
	}
	fds, _, err := spawn.Run(ctx, func(p *spawn.Program) {
		ns := p.Input(int(netNS.Fd()))
		if userNS != nil {
			p.EnterUserNS(p.Input(int(userNS.Fd())))
		}
		p.Do("setns", "network namespace", unix.SYS_SETNS, ns, unix.CLONE_NEWNET)
		p.Send(p.Do("socket", "", unix.SYS_SOCKET, family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0))
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), "socket"), nil
}

func ownSocket(ctx context.Context, family, kind int) (*os.File, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	return os.NewFile(uintptr(fd), "socket"), nil
}

// connect connects a non-blocking socket under a context.
func connect(ctx context.Context, f *os.File, to unix.Sockaddr) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if err = connectNow(ctx, raw, to); err != unix.EINPROGRESS {
		return os.NewSyscallError("connect", err)
	}
	stop := context.AfterFunc(ctx, func() { f.SetWriteDeadline(past) })
	defer stop()
	werr := raw.Write(func(fd uintptr) bool {
		// Ask each time: the event may have come before the poller was told to wait.
		if !writable(int(fd)) {
			return false
		}
		var n int
		if n, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); n != 0 {
			err = syscall.Errno(n)
		}
		return true
	})
	if werr != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return werr
	}
	f.SetWriteDeadline(never)
	return os.NewSyscallError("connect", err)
}

// connectNow calls connect, for as long as the backlog of a unix server is full:
// nothing tells when it no longer is (unix(7)).
func connectNow(ctx context.Context, raw syscall.RawConn, to unix.Sockaddr) (err error) {
	for {
		if cerr := raw.Control(func(fd uintptr) { err = unix.Connect(int(fd), to) }); cerr != nil {
			return cerr
		}
		if err != unix.EAGAIN || family(to) != unix.AF_UNIX {
			return err
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func writable(fd int) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 0)
		if err != unix.EINTR {
			return n > 0
		}
	}
}

var (
	past  = time.Unix(1, 0)
	never time.Time
)

func family(a unix.Sockaddr) int {
	switch a.(type) {
	case *unix.SockaddrInet4:
		return unix.AF_INET
	case *unix.SockaddrInet6:
		return unix.AF_INET6
	}
	return unix.AF_UNIX
}

// addresses lists what an address may mean, and the socket type.
func addresses(network, addr string) (targets []unix.Sockaddr, kind int, err error) {
	switch network {
	case "unix":
		if len(addr) < 2 || addr[0] != '@' {
			return nil, 0, fmt.Errorf("%q: not an abstract address (@name): %w", addr, fs.ErrInvalid)
		}
		return []unix.Sockaddr{&unix.SockaddrUnix{Name: addr}}, unix.SOCK_STREAM, nil
	case "tcp", "tcp4", "tcp6":
		kind = unix.SOCK_STREAM
	case "udp", "udp4", "udp6":
		kind = unix.SOCK_DGRAM
	default:
		return nil, 0, net.UnknownNetworkError(network)
	}
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", err, fs.ErrInvalid)
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, 0, fmt.Errorf("port %q: not a number from 0 to 65535: %w", service, fs.ErrInvalid)
	}
	for _, ip := range hostAddrs(host) {
		switch {
		case ip.Is4() && network[3:] != "6":
			targets = append(targets, &unix.SockaddrInet4{Addr: ip.As4(), Port: int(port)})
		case ip.Is6() && network[3:] != "4":
			targets = append(targets, &unix.SockaddrInet6{Addr: ip.As16(), Port: int(port)})
		}
	}
	if targets == nil {
		return nil, 0, fmt.Errorf("host %q: neither an address for %s nor localhost: %w", host, network, fs.ErrNotExist)
	}
	return targets, kind, nil
}

func hostAddrs(host string) []netip.Addr {
	if host == "" || host == "localhost" {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || ip.Zone() != "" {
		return nil
	}
	return []netip.Addr{ip.Unmap()}
}
