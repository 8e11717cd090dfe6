package sandbox

import (
	"context"
	"errors"
	"io"
	"runtime"
	"syscall"
	"time"
)

// A Process is a command that was started. All methods may be called
// concurrently.
type Process struct {
	// Stdin is our end of the pipe, or terminal, if Cmd.Pipes names it, else nil. It is the
	// caller's to close.
	Stdin io.WriteCloser
	// Stdout is the same for standard output.
	Stdout io.ReadCloser
	// Stderr is the same for standard error.
	Stderr io.ReadCloser

	p       *process
	sandbox *Sandbox // a Process keeps its Sandbox from being dropped
}

func newProcess(s *Sandbox, p *process) *Process {
	return &Process{Stdin: p.stdio.stdin, Stdout: p.stdio.stdout, Stderr: p.stdio.stderr, p: p, sandbox: s}
}

// PID returns the command's process id as the embedding program sees it. Inside it
// is 1 or, with Cmd.Init, 2.
func (p *Process) PID() int { return p.p.pid }

// Done returns a channel that is closed when the Result is there.
func (p *Process) Done() <-chan struct{} { return p.p.done }

// Wait waits for the end of the command and of the copying of its streams, and
// returns how it ended, to every caller. The context bounds the wait alone.
func (p *Process) Wait(ctx context.Context) (*Result, error) {
	defer runtime.KeepAlive(p)
	select {
	case <-p.p.done:
		return p.p.result, p.sandbox.wrap("wait", p.p.err)
	case <-ctx.Done():
		return nil, p.sandbox.wrap("wait", context.Cause(ctx))
	}
}

// Signal sends a signal to the command itself. As PID 1 it gets only those that it
// has a handler for, and SIGKILL and SIGSTOP (pid_namespaces(7)); with Cmd.Init
// every one does what signal(7) says. The error is os.ErrProcessDone when it has
// ended.
func (p *Process) Signal(sig syscall.Signal) error {
	return p.sandbox.wrap("signal", p.p.signal(sig))
}

// Kill kills the command and all its descendants: its Status is Killed. The
// error is os.ErrProcessDone when it has ended.
func (p *Process) Kill() error {
	return p.sandbox.wrap("kill", p.p.kill(Killed, nil))
}

// Stop ends the command in an orderly way: it sends Cmd.StopSignal, and kills the command with all its descendants if it
// has not ended after grace, or when ctx ends. It returns as Wait does, and so may be called for one that has ended; when
// ctx ends first, with its cause and without waiting for the end. A command that is PID 1 (without Cmd.Init) and has no
// handler for the signal ignores it, and is killed after grace.
func (p *Process) Stop(ctx context.Context, grace time.Duration) (*Result, error) {
	defer runtime.KeepAlive(p)
	if sig := p.p.stopSignal(); sig != 0 {
		_ = p.p.signal(sig) // os.ErrProcessDone: it has ended
	} else {
		grace = 0
	}
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-p.p.gone:
	case <-t.C:
	case <-ctx.Done():
	}
	_ = p.p.kill(Killed, nil)
	return p.Wait(ctx)
}

// Ready waits until probe succeeds: a connection, a health check. probe is called again and again, 5 to 250 ms after it
// failed; its context ends with ctx, and when the command ends. A command that ends before it is ready is an *ExitError at once,
// also when it exited with 0. When ctx ends first the error has its cause and what probe said last.
func (p *Process) Ready(ctx context.Context, probe func(context.Context) error) error {
	defer runtime.KeepAlive(p)
	return p.sandbox.wrap("ready", p.p.ready(ctx, probe))
}

func (p *process) ready(ctx context.Context, probe func(context.Context) error) error {
	probing, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with Ready, or the command
		select {
		case <-p.done:
			cancel()
		case <-probing.Done():
		}
	}()
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		err := probe(probing)
		if err == nil {
			return nil
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
			continue
		case <-probing.Done():
		}
		t.Stop()
		select {
		case <-p.done:
			return &ExitError{Result: p.result}
		default:
			return errors.Join(context.Cause(ctx), err)
		}
	}
}
