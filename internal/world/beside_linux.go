package world

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// errHeldUp says that a command could not be started beside others, who kept its child from going on: they can stop it.
var errHeldUp = errors.New("the start was held up, as by a signal from a process that is there")

// patience is how long such a start may take. It is a matter of milliseconds, on a machine with nothing to spare of seconds.
const patience = 10 * time.Second

// StartIn starts c beside target, in its PID and mount namespaces. It is os.ErrProcessDone when that has ended.
func (w *World) StartIn(ctx context.Context, target *Process, c Command) (*Process, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	target.mu.RLock()
	defer target.mu.RUnlock()
	if w.closed || target.closed {
		return nil, os.ErrProcessDone
	}
	if c.Clock != nil {
		return nil, &Unsupported{What: "a command beside another one, with a clock of its own", Remedy: "leave Options.Clock out"}
	}
	pids, err := target.pidNamespace()
	if err != nil {
		return nil, err
	}
	defer pids.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errHeldUp)
	defer cancel()
	// Not born in the PID namespace: who enters that comes from all the others, and shows no mount or socket of the host's.
	s := spawn.Setup{Files: len(c.Files), PIDs: pids}
	p, err := starter(spawn.Start).patient(ctx, s, func(p *spawn.Program) { w.command(p, c, target.mnt, true) })
	if err != nil {
		if target.Ending() {
			err = os.ErrProcessDone
		}
		return nil, outerError("a command in a sandbox", err)
	}
	return &Process{Process: p, world: w, mnt: -1}, nil
}

// pidNamespace opens that of p. Its pid is not another one's as long as it can be sent a signal.
func (p *Process) pidNamespace() (*os.File, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", p.PID))
	if p.Signal(0) != nil {
		if err == nil {
			f.Close()
		}
		return nil, os.ErrProcessDone
	}
	return f, err
}
