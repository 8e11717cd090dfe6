package sandbox

import (
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/world"
)

// terminal is what Cmd.TTY asks for; nil: nothing.
func (c *Cmd) terminal() *world.Terminal {
	if c.TTY == nil {
		return nil
	}
	t := world.Terminal{Rows: c.TTY.Rows, Cols: c.TTY.Cols}
	if t.Rows == 0 {
		t.Rows = 24
	}
	if t.Cols == 0 {
		t.Cols = 80
	}
	return &t
}

// takeTerminal takes over what the child has sent of its terminal, and returns what else it has sent.
func (p *process) takeTerminal(sent []int) []int {
	if p.cmd.TTY == nil {
		return sent
	}
	_ = unix.SetNonblock(sent[0], true) // for Go's poller; it can't fail
	p.stdio.attach(os.NewFile(uintptr(sent[0]), "terminal"), os.NewFile(uintptr(sent[1]), "terminal"))
	return sent[2:]
}

func (p *process) resize(rows, cols uint16) error {
	p.kills.Lock()
	defer p.kills.Unlock()
	if p.kills.ended || p.child == nil {
		return os.ErrProcessDone
	}
	conn, err := p.stdio.tty.ours.SyscallConn()
	if err != nil {
		return err
	}
	cerr := conn.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
	if cerr != nil {
		return os.ErrClosed // it is all that Control says
	}
	return os.NewSyscallError("ioctl TIOCSWINSZ", err)
}

// readNow reads what is there; nothing is 0. A deadline does not matter.
func readNow(f *os.File, b []byte) (n int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := conn.Control(func(fd uintptr) {
		for {
			if n, err = unix.Read(int(fd), b); err != unix.EINTR {
				return
			}
		}
	})
	switch {
	case cerr != nil:
		return 0, os.ErrClosed
	case err == unix.EAGAIN:
		err = nil
	}
	return max(n, 0), err
}

// typed reads a file for a command's terminal until the command has ended: whoever sits at the embedder's terminal need
// not press a key for that.
type typed struct {
	fd    int // the file, once more: its owner may close it
	ended [2]int
}

// newTyped must be followed by end and Close.
func newTyped(f *os.File) (*typed, error) {
	t := &typed{}
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	cerr := conn.Control(func(fd uintptr) { t.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if cerr != nil {
		return nil, cerr
	}
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	if err := unix.Pipe2(t.ended[:], unix.O_CLOEXEC); err != nil {
		unix.Close(t.fd)
		return nil, os.NewSyscallError("pipe2", err)
	}
	return t, nil
}

// Read is the file's, or io.EOF after the end.
func (t *typed) Read(b []byte) (int, error) {
	for {
		p := []unix.PollFd{{Fd: int32(t.fd), Events: unix.POLLIN}, {Fd: int32(t.ended[0])}}
		if _, err := unix.Poll(p, -1); err == unix.EINTR {
			continue
		} else if err != nil {
			return 0, os.NewSyscallError("poll", err)
		}
		if p[1].Revents != 0 {
			return 0, io.EOF
		}
		n, err := unix.Read(t.fd, b)
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// end has Read end.
func (t *typed) end() { unix.Close(t.ended[1]) }

// Close is the reader's, when it does not read any more.
func (t *typed) Close() error {
	unix.Close(t.ended[0])
	return os.NewSyscallError("close", unix.Close(t.fd))
}
