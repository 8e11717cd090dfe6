package sandbox

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A TTY is a command's terminal (pty(7)): one of the sandbox's own, in its /dev/pts, that nobody outside can open.
type TTY struct {
	// Rows is how many lines it has when the command starts. 0: 24.
	Rows uint16
	// Cols is how many characters a line has when the command starts. 0: 80.
	Cols uint16
}

// Resize changes the size of the command's terminal, whose foreground job gets SIGWINCH. The error is a *FieldError where there
// is none (Cmd.TTY) or a size is 0, os.ErrProcessDone when the command has ended, and os.ErrClosed when Stdout was closed.
func (p *Process) Resize(rows, cols uint16) error {
	f := &faults{}
	f.check(p.p.stdio.tty == nil, "Cmd.TTY", nil, "nil: the command has no terminal")
	f.check(rows == 0, "rows", nil, "0")
	f.check(cols == 0, "cols", nil, "0")
	err := errors.Join(f.errs...)
	if err == nil {
		err = p.p.resize(rows, cols)
	}
	return p.sandbox.wrap("resize", err)
}

// terminal is our side of a command's terminal. Reading ends with the command, not with the last process that has the
// terminal: others of the sandbox may have opened it by its name.
type terminal struct {
	ours   *os.File // set by attach; nil: the command was not executed
	theirs *os.File // open until the command has ended: else one that closes its own would end the reading, and be hung up
	keys   *typed   // nil: not from a file

	mu   sync.Mutex
	left int // how much may be read after the end
}

// leftMost is more than the kernel holds of a terminal's output (tty_buffer_set_limit, 64 KiB, and N_TTY_BUF_SIZE): what others
// write after the command's end can't keep us reading.
const leftMost = 256 << 10

// attach takes both ends over, before anybody reads or writes.
func (t *terminal) attach(ours, theirs *os.File) {
	t.ours, t.theirs, t.left = ours, theirs, leftMost
}

// Read reads what the command writes.
func (t *terminal) Read(b []byte) (int, error) {
	if t.ours == nil {
		return 0, io.EOF
	}
	n, err := t.ours.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		n, err = t.rest(b)
	}
	if errors.Is(err, syscall.EIO) { // nobody has it open
		err = io.EOF
	}
	return n, err
}

// rest reads what is there, after the end.
func (t *terminal) rest(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, err := readNow(t.ours, b[:min(len(b), t.left)])
	t.left -= n
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// Close hangs up: the command gets SIGHUP, and its reads and writes fail.
func (t *terminal) Close() error {
	if t.ours == nil {
		return nil
	}
	return t.ours.Close()
}

// end is called once, when the command has ended: reads get what is left, and nobody writes any more.
func (t *terminal) end() {
	if t.keys != nil {
		t.keys.end()
	}
	if t.ours != nil {
		_ = t.ours.SetDeadline(past) // os.ErrClosed: there is nothing to end
		t.theirs.Close()
	}
}

var past = time.Unix(1, 0)

// feed has the command read what from has.
func (t *terminal) feed(in *keyboard, from io.Reader) error {
	_, err := io.Copy(in, from)
	// A command need not read all that it is given.
	if errors.Is(err, syscall.EPIPE) {
		err = nil
	}
	if t.keys != nil {
		err = errors.Join(err, t.keys.Close())
	}
	return err
}

// abandon closes what there is of a terminal whose command was not started.
func (t *terminal) abandon() {
	if t.keys != nil {
		t.keys.end()
		t.keys.Close()
	}
}

// A keyboard is the end of a terminal that what the command reads is written to. To close it does not hang up.
type keyboard struct {
	of     *terminal
	closed atomic.Bool
}

// Write has the command read b.
func (k *keyboard) Write(b []byte) (int, error) {
	if k.closed.Load() {
		return 0, os.ErrClosed
	}
	if k.of.ours == nil {
		return 0, syscall.EPIPE
	}
	n, err := k.of.ours.Write(b)
	switch {
	case err == nil:
	case k.closed.Load():
		err = os.ErrClosed
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, os.ErrClosed), errors.Is(err, syscall.EIO):
		err = syscall.EPIPE // as of a pipe that nobody reads
	}
	return n, err
}

// Close ends writing, also one that waits for the command to read.
func (k *keyboard) Close() error {
	if k.closed.Swap(true) {
		return os.ErrClosed
	}
	if k.of.ours != nil {
		_ = k.of.ours.SetWriteDeadline(past) // os.ErrClosed: nobody waits
	}
	return nil
}
