package sandbox

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"reflect"
	"sync/atomic"
	"syscall"
	"time"
)

// stdio connects a command's streams with Readers and Writers, as os/exec does.
type stdio struct {
	files   []*os.File // the command's descriptors; nil: the null device
	theirs  []*os.File // those of them that are closed once the command has them
	ours    []*os.File // our ends of pipes that goroutines copy from and to
	copies  []func() error
	results chan error

	tty    *terminal // of Cmd.TTY, in place of pipes; nil: none
	copied bool      // by us, and ours to close: its output

	stdin          io.WriteCloser // the ends that a Process has
	stdout, stderr io.ReadCloser

	limit int64 // bytes of output, 0 for no limit
	wrote atomic.Int64
	flood func() // called when there are more

	log *commandLog // nil: none
}

// newStdio makes the pipes that c needs. limit is that of Limits.Output. It takes the log over.
func newStdio(c *Cmd, limit int64, log *commandLog) (*stdio, error) {
	s := &stdio{limit: limit, log: log}
	err := s.open(c)
	if err != nil {
		s.abandon()
		return nil, err
	}
	s.results = make(chan error, len(s.copies))
	return s, nil
}

func (s *stdio) open(c *Cmd) error {
	if c.TTY != nil {
		return s.openTerminal(c)
	}
	if err := s.openStdin(c); err != nil {
		return err
	}
	out, end, err := s.output(Stdout, c.Stdout, c.Pipes&PipeStdout != 0)
	if err != nil {
		return err
	}
	s.stdout = end
	errFile := out
	if c.Stderr == nil && c.Pipes&PipeStderr == 0 || !same(c.Stdout, c.Stderr) {
		if errFile, end, err = s.output(Stderr, c.Stderr, c.Pipes&PipeStderr != 0); err != nil {
			return err
		}
		s.stderr = end
	}
	s.files = append(s.files, out, errFile)
	s.files = append(s.files, c.ExtraFiles...)
	return nil
}

// same says whether two Writers are one, and must get one pipe.
func same(a, b io.Writer) bool {
	// The value, not its type: a struct may hold a slice in an interface.
	return a != nil && b != nil && reflect.ValueOf(a).Comparable() && reflect.ValueOf(b).Comparable() && a == b
}

func (s *stdio) openStdin(c *Cmd) error {
	if c.Pipes&PipeStdin == 0 {
		if f, ok := c.Stdin.(*os.File); c.Stdin == nil || ok && mayPass(f) {
			s.files = append(s.files, f)
			return nil
		}
	}
	r, w, err := openPipe()
	if err != nil {
		return err
	}
	s.files = append(s.files, r)
	s.theirs = append(s.theirs, r)
	if c.Pipes&PipeStdin != 0 {
		s.stdin = w
		return nil
	}
	s.ours = append(s.ours, w)
	s.copies = append(s.copies, func() error {
		_, err := io.Copy(w, c.Stdin)
		// A command need not read all that it is given.
		if errors.Is(err, syscall.EPIPE) {
			err = nil
		}
		return errors.Join(err, ignoreClosed(w.Close()))
	})
	return nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// openTerminal prepares the streams of a command with a terminal, which its child will open (attach).
func (s *stdio) openTerminal(c *Cmd) (err error) {
	s.tty = &terminal{}
	s.files = append(make([]*os.File, 3), c.ExtraFiles...)
	in := &keyboard{of: s.tty}
	if c.Pipes&PipeStdin != 0 {
		s.stdin = in
	} else if c.Stdin != nil {
		from := c.Stdin
		if f, ok := from.(*os.File); ok {
			if s.tty.keys, err = newTyped(f); err != nil {
				return err
			}
			from = s.tty.keys
		}
		s.copies = append(s.copies, func() error { return s.tty.feed(in, from) })
	}
	if c.Pipes&PipeStdout != 0 {
		s.stdout = s.tty
		return nil
	}
	s.copied = true
	s.copyTo(Stdout, c.Stdout, s.tty)
	return nil
}

// attach takes over both ends of the terminal that the child has opened.
func (s *stdio) attach(ours, theirs *os.File) {
	s.tty.attach(ours, theirs)
	if s.copied {
		s.ours = append(s.ours, ours)
	}
}

// openPipe makes a pipe that every user of a sandbox may open again by its name,
// /dev/stdout for example: it belongs to the embedder, whom the sandbox does not
// know. Only those who have it find that name (proc_pid_fd(5)).
func openPipe() (r, w *os.File, err error) {
	if r, w, err = os.Pipe(); err != nil {
		return nil, nil, err
	}
	if err = w.Chmod(0o666); err != nil {
		closeAll([]*os.File{r, w})
		return nil, nil, err
	}
	return r, w, nil
}

// output makes what the command writes to: nothing, the caller's file, or a
// pipe whose other end is the Process's or copied to the Writer.
func (s *stdio) output(stream Stream, w io.Writer, pipe bool) (file *os.File, end io.ReadCloser, err error) {
	if !pipe && s.log == nil {
		if w == nil {
			return nil, nil, nil
		}
		if f, ok := w.(*os.File); ok && s.limit == 0 && mayPass(f) {
			return f, nil, nil
		}
	}
	r, pw, err := openPipe()
	if err != nil {
		return nil, nil, err
	}
	s.theirs = append(s.theirs, pw)
	if pipe {
		return pw, r, nil
	}
	s.ours = append(s.ours, r)
	s.copyTo(stream, w, r)
	return pw, nil, nil
}

// copyTo has what the command writes copied to a Writer and the log, until from has no more, and then closes that.
func (s *stdio) copyTo(stream Stream, w io.Writer, from io.ReadCloser) {
	if w == nil {
		w = io.Discard // somebody must read, or the command would wait
	}
	end := func() {}
	if s.log != nil {
		w, end = s.log.tee(stream, w)
	}
	s.copies = append(s.copies, func() error {
		_, err := io.Copy(s.counted(w), from)
		end()
		return errors.Join(err, ignoreClosed(from.Close()))
	})
}

// counted passes on as many bytes as the limit allows, over all streams.
func (s *stdio) counted(w io.Writer) io.Writer {
	if s.limit == 0 {
		return w
	}
	return writerFunc(func(b []byte) (int, error) {
		over := s.wrote.Add(int64(len(b))) - s.limit
		if over <= 0 {
			return w.Write(b)
		}
		s.flood()
		if keep := int64(len(b)) - over; keep > 0 {
			if n, err := w.Write(b[:keep]); err != nil {
				return n, err
			}
		}
		return len(b), nil
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// started closes the command's ends and begins to copy. flood is called when
// the output exceeds its limit.
func (s *stdio) started(flood func()) {
	s.flood = flood
	closeAll(s.theirs)
	for _, f := range s.copies {
		go func() { s.results <- f() }() // ends with its stream, or when finish closes our end
	}
}

// copyGrace is how long copying may go on after the end of Run's context or
// the sandbox's: enough for what is in the pipes, if nobody blocks.
const copyGrace = time.Second

// finish waits for the copies after the command has ended, for delay if it is
// not 0, for copyGrace once ctx has ended.
func (s *stdio) finish(ctx context.Context, delay time.Duration) error {
	if s.tty != nil {
		s.tty.end()
	}
	var late <-chan time.Time
	cut := ctx.Done()
	if delay > 0 {
		t := time.NewTimer(delay)
		defer t.Stop()
		late, cut = t.C, nil
	}
	var errs []error
	for len(errs) < len(s.copies) {
		select {
		case err := <-s.results:
			errs = append(errs, err)
			continue
		default:
		}
		select {
		case err := <-s.results:
			errs = append(errs, err)
		case <-cut:
			t := time.NewTimer(copyGrace)
			defer t.Stop()
			late, cut = t.C, nil
		case <-late:
			closeAll(s.ours)
			return errors.Join(append(errs, exec.ErrWaitDelay, context.Cause(ctx))...)
		}
	}
	return errors.Join(errs...)
}

// cutOff says whether there was more output than the limit.
func (s *stdio) cutOff() bool { return s.limit > 0 && s.wrote.Load() > s.limit }

// abandon closes everything of a command that was not started.
func (s *stdio) abandon() {
	if s.tty != nil {
		s.tty.abandon()
	}
	if s.log != nil {
		_ = s.log.end() // nothing was written
		s.log.remove()
	}
	closeAll(s.theirs)
	closeAll(s.ours)
	for _, c := range []io.Closer{s.stdin, s.stdout, s.stderr} {
		if f, ok := c.(*os.File); ok && f != nil {
			f.Close()
		}
	}
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
