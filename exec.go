package sandbox

import (
	"context"
	"runtime"
)

// Start starts c beside the command, as docker exec does: in its PID and mount namespaces, where it sees the processes and
// mounts of the command, as one of its process tree, with its own user, directory, environment, streams, limits and system call
// filter. What is true of a Process is true of this one, but for its end: when c has ended by itself, processes that it left
// behind live on beside the command. When it is killed (by Kill, a limit) all of its tree is, where the sandbox can have
// cgroups, else c alone. All end with the command, killed, whatever they do.
//
// The command's processes see c from its start, and may signal it as their own. They can't reach the embedding program by it:
// until its exec c has a copy of the program's memory, which nobody in the sandbox can read (it is not dumpable), and no more
// of its descriptors than its own. They can keep c from starting, for ten seconds or until ctx ends. The copy's page tables make a start
// slower the larger the embedding program is, by some 0.04 ms for each MiB of its memory.
//
// Cmd.Init and Cmd.Files are errors. The context bounds the start alone. Errors: as those of Sandbox.Start;
// os.ErrProcessDone when the command has ended; errors.ErrUnsupported with Options.Clock.
func (p *Process) Start(ctx context.Context, c *Cmd) (*Process, error) {
	defer runtime.KeepAlive(p)
	child, err := p.sandbox.core.start(ctx, c, p.p)
	if err != nil {
		return nil, p.sandbox.wrap("start", err)
	}
	go child.supervise() // ends with the process
	return newProcess(p.sandbox, child), nil
}

// Run is Start of c, its end waited for, and killed when ctx ends first: as Sandbox.Run.
func (p *Process) Run(ctx context.Context, c *Cmd) (*Result, error) {
	if err := c.unpiped(); err != nil {
		return nil, p.sandbox.wrap("run", err)
	}
	child, err := p.Start(ctx, c)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = child.p.kill(Canceled, context.Cause(ctx)) }) // os.ErrProcessDone: it has ended
	defer stop()
	return child.Wait(context.WithoutCancel(ctx))
}
