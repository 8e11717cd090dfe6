package sandbox

import (
	"bytes"
	"context"
	"errors"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/seccomp"
)

// A listener answers the system calls of one command that are left to a Notify.
type listener struct {
	handle func(context.Context, *Syscall) Answer
	names  map[int32]string
	file   *os.File // of the filter

	stop   context.CancelFunc
	tokens chan struct{} // one for each call that is being decided on
	all    sync.WaitGroup
}

// maxAnswers is how many calls are decided on at a time.
const maxAnswers = 64

// listen takes over fd, and answers until close.
func (n *Notify) listen(fd int, names map[int32]string) *listener {
	_ = unix.SetNonblock(fd, true) // for Go's poller; it can't fail
	l := &listener{handle: n.Handle, names: names, file: os.NewFile(uintptr(fd), "seccomp notify"), tokens: make(chan struct{}, maxAnswers)}
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	l.all.Go(func() { l.serve(ctx) }) // ends with close, or the last process of the command
	return l
}

// close ends it. Calls that still wait fail with ENOSYS.
func (l *listener) close() {
	l.stop()
	l.file.Close()
	l.all.Wait()
}

func (l *listener) serve(ctx context.Context) {
	for {
		select {
		case l.tokens <- struct{}{}:
		case <-ctx.Done():
			return
		}
		c, err := l.next()
		if err != nil {
			return // closed, or nobody is left who could call
		}
		l.all.Go(func() { // ends with Handle
			defer func() { <-l.tokens }()
			c.answer(l.handle(ctx, c))
		})
	}
}

// next waits for a call.
func (l *listener) next() (c *Syscall, err error) {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	rerr := raw.Read(func(fd uintptr) bool {
		c, err = l.take(int(fd))
		return err != unix.EAGAIN
	})
	return c, errors.Join(rerr, err)
}

// take receives a call that is there, or fails with EAGAIN. (The ioctl alone would wait.)
func (l *listener) take(fd int) (*Syscall, error) {
	for {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, 0); err == unix.EINTR {
			continue
		} else if err != nil {
			return nil, err
		}
		switch e := p[0].Revents; {
		case e&unix.POLLIN != 0:
		case e&(unix.POLLHUP|unix.POLLERR) != 0:
			return nil, os.ErrClosed
		default:
			return nil, unix.EAGAIN
		}
		var n notification
		switch err := ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)); err {
		case nil:
			return &Syscall{Name: l.names[n.nr], Args: n.args, PID: int(n.pid), listener: l, id: n.id}, nil
		case unix.ENOENT, unix.EINTR: // who made it is gone
		default:
			return nil, err
		}
	}
}

// answer has the call go on. That it is gone, or the listener, is no fault.
func (c *Syscall) answer(a Answer) {
	if a.File != nil {
		defer a.File.Close()
	}
	r := response{id: c.id, val: a.Value, errno: -int32(a.Errno)}
	if a.Continue {
		r = response{id: c.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	}
	_ = c.control(func(fd int) error {
		if a.File != nil && a.Errno == 0 && !a.Continue {
			r.val, r.errno = c.give(fd, a.File)
		}
		return ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r))
	})
}

// give makes a descriptor of f in the process that called.
func (c *Syscall) give(fd int, f *os.File) (number int64, errno int32) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, -int32(unix.EBADF)
	}
	// SECCOMP_IOCTL_NOTIF_ADDFD, _IOW('!', 3, struct seccomp_notif_addfd) of linux/seccomp.h
	const addFD = 0x40182103
	cerr := conn.Control(func(src uintptr) {
		a := addfd{id: c.id, src: uint32(src), newFlags: unix.O_CLOEXEC}
		n, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), addFD, uintptr(unsafe.Pointer(&a)))
		number, errno = int64(n), -int32(e)
		if e != 0 {
			number = 0
		}
	})
	if cerr != nil {
		return 0, -int32(unix.EBADF) // closed by its owner
	}
	return number, errno
}

// ReadMemory reads memory of the process that called, from an address in Args on. It is what is there now: other threads
// may change it at any time. n is less than len(b) where the memory ends. Errors: os.ErrProcessDone when the call waits no
// more, else the errno of process_vm_readv(2).
func (c *Syscall) ReadMemory(address uint64, b []byte) (n int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	local := []unix.Iovec{{Base: &b[0], Len: uint64(len(b))}}
	n, err = unix.ProcessVMReadv(c.PID, local, []unix.RemoteIovec{{Base: uintptr(address), Len: len(b)}}, 0)
	runtime.KeepAlive(b)
	// The number could be another's by now.
	if verr := c.valid(); verr != nil {
		return 0, os.ErrProcessDone
	}
	if err != nil {
		return 0, os.NewSyscallError("process_vm_readv", err)
	}
	return n, nil
}

// ReadString is ReadMemory of a string that ends with a NUL, of at most max bytes without that. One that is longer is
// syscall.ENAMETOOLONG.
func (c *Syscall) ReadString(address uint64, max int) (string, error) {
	const page = 4096
	var s []byte
	for len(s) <= max {
		b := make([]byte, min(page-int(address%page), max+1-len(s))) // not beyond a page, behind which there may be nothing
		n, err := c.ReadMemory(address, b)
		if err != nil {
			return "", err
		}
		if end := bytes.IndexByte(b[:n], 0); end >= 0 {
			return string(append(s, b[:end]...)), nil
		}
		s, address = append(s, b[:n]...), address+uint64(n)
	}
	return "", syscall.ENAMETOOLONG
}

// valid is an error when the call waits no more.
func (c *Syscall) valid() error {
	// SECCOMP_IOCTL_NOTIF_ID_VALID, _IOW('!', 2, __u64) of linux/seccomp.h
	const idValid = 0x40082102
	return c.control(func(fd int) error { return ioctl(fd, idValid, unsafe.Pointer(&c.id)) })
}

func (c *Syscall) control(f func(fd int) error) (err error) {
	raw, err := c.listener.file.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := raw.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}

func ioctl(fd int, request uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// notification, response and addfd are struct seccomp_notif, seccomp_notif_resp and seccomp_notif_addfd (linux/seccomp.h).
type notification struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type response struct {
	id    uint64
	val   int64
	errno int32
	flags uint32
}

type addfd struct {
	id                           uint64
	flags, src, number, newFlags uint32
}

// checkNotify says what is wrong with n.
func checkNotify(n *Notify) error {
	if n.Handle == nil {
		return errors.New("it has no Handle")
	}
	_, _, err := seccomp.Notify(n.Calls)
	return err
}
