package sandbox

import (
	"context"
	"io"
	"runtime"
	"syscall"
)

// A Process is a command that was started. All methods may be called
// concurrently.
type Process struct {
	// Stdin is our end of the pipe if Cmd.Pipes names it, else nil. It is the
	// caller's to close.
	Stdin io.WriteCloser
	// Stdout is the same for standard output.
	Stdout io.ReadCloser
	// Stderr is the same for standard error.
	Stderr io.ReadCloser

	p       *process
	sandbox *Sandbox // a Process keeps its Sandbox from being dropped
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
