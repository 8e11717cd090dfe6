package world

import (
	"context"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// A home is where a command with an init lives: a PID namespace with the init, and a copy of the World's mount
// namespace with the /proc of that. It is made ahead, so that a command does not wait for two execs.
type home struct {
	init *spawn.Init
	mnt  int
}

func closeHomes(homes []*home) {
	var inits []*spawn.Init
	for _, h := range homes {
		inits = append(inits, h.init)
	}
	spawn.CloseInits(inits...)
	for _, h := range homes {
		unix.Close(h.mnt)
	}
}

// newHomes makes n of them.
func (w *World) newHomes(ctx context.Context, n int) ([]*home, error) {
	mounts, err := w.copies(ctx, n)
	if err != nil {
		return nil, err
	}
	var homes []*home
	for i, mnt := range mounts {
		// Reserved is the number that the init is executed by.
		s := spawn.Setup{Files: 1, Namespaces: pidNamespace()}
		init, err := spawn.StartInit(ctx, s, func(p *spawn.Program) { w.initProgram(p, mnt) })
		if err != nil {
			closeAll(mounts[i:])
			if i > 0 {
				return homes, nil // who needs the next one meets the error
			}
			return nil, err
		}
		homes = append(homes, &home{init, mnt})
	}
	return homes, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// initProgram adds the calls that turn a child into the init of mnt's commands.
func (w *World) initProgram(p *spawn.Program, mnt int) {
	file, own := p.Input(int(w.init.Load().Fd())), p.OwnNamespaces()
	w.enter(p, nil, mnt)
	p.ExecInit(file, own)
}

// startBehindInit starts a command beside an init. One whose init was killed meanwhile, as for want of memory, gets
// another.
func (w *World) startBehindInit(ctx context.Context, c Command, start starter) (*Process, error) {
	w.init.Store(c.Init)
	for {
		h, err := w.homes.take(ctx)
		if err != nil {
			return nil, err
		}
		s := spawn.Setup{Files: len(c.Files), Cgroup: c.Cgroup, Namespaces: pidNamespace(), Init: h.init}
		p, err := start.patient(ctx, s, func(p *spawn.Program) { w.command(p, c, h.mnt, false) })
		if err == nil {
			return &Process{Process: p, world: w, mnt: h.mnt}, nil
		}
		gone := h.init.Ended()
		w.homes.put(h) // also a whole one: its next command would not be PID 2
		if !gone || ctx.Err() != nil {
			return nil, err
		}
	}
}

// StartIdle starts an init, the program of which is given, and no command: for StartIn. It has what Mounts are PerRun.
func (w *World) StartIdle(ctx context.Context, init *os.File) (*Process, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return nil, os.ErrClosed
	}
	w.init.Store(init)
	h, err := w.homes.take(ctx)
	for err == nil && h.init.Ended() { // killed meanwhile, as for want of memory
		w.homes.put(h)
		h, err = w.homes.take(ctx)
	}
	if err != nil {
		return nil, outerError("a session in a sandbox", err)
	}
	var p *spawn.Process
	if err = w.furnish(ctx, h.mnt); err == nil {
		p, err = h.init.Alone()
	}
	if err != nil {
		w.homes.put(h)
		return nil, outerError("a session in a sandbox", err)
	}
	return &Process{Process: p, world: w, mnt: h.mnt}, nil
}

// furnish makes the Mounts that are PerRun in a copy of the mount namespace.
func (w *World) furnish(ctx context.Context, mnt int) error {
	if !slices.ContainsFunc(w.spec.Mounts, func(m Mount) bool { return m.PerRun }) {
		return nil
	}
	_, _, err := spawn.Run(ctx, func(p *spawn.Program) {
		ns := w.namespaces(p, mnt)
		priority(p)
		ns.enterAll(p)
		p.SetIDs(w.spec.rootIDs())
		w.spec.ownExtra(p, &Command{})
	})
	return err
}

// join adds the calls up to where the child is root in the World's namespaces, in mnt, and in the PID namespace of its
// init. Both are a home's.
func (w *World) join(p *spawn.Program, group *os.File, mnt int) {
	ns := w.namespaces(p, mnt)
	var pids, cgroup spawn.Ref
	if !p.Born() {
		pids, cgroup = p.PIDNamespace(), optional(p, group)
	}
	priority(p)
	enterPIDs := func(now bool) {
		if now && !p.Born() {
			p.Do("setns", "PID namespace", unix.SYS_SETNS, pids, unix.CLONE_NEWPID)
		}
	}
	enterPIDs(privileged()) // it may belong to the machine's root, and else does to the World's
	ns.enterAll(p)
	enterPIDs(!privileged())
	if !p.Born() {
		p.ForkCommand(0, cgroup)
	}
	p.SetIDs(w.spec.rootIDs())
}
