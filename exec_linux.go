package sandbox

import (
	"context"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/cgroup"
	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
	"github.com/seed-5a9fb6e0/sandbox/internal/world"
)

// guests are what was started beside a process, as it needs to know of it.
type guests struct {
	mu    sync.Mutex
	had   bool            // somebody was, or is about to be, started beside it
	over  bool            // nobody can be any more
	stays []*cgroup.Group // of those that ended and left others behind
	held  sync.WaitGroup  // those that somebody in the namespace has kept from being waited for
	gone  bool            // it has ended with all of them
}

// none says that nobody was started beside the process, and sees to it that nobody will be.
func (g *guests) none() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = !g.had
	return g.over
}

// admit is false when nobody can be started beside the process any more.
func (g *guests) admit() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over || g.gone {
		return false
	}
	g.had = true
	return true
}

// keep has a group that isn't empty stay until the process has ended, and lets go of those that have got empty.
func (g *guests) keep(group *cgroup.Group) {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := append(g.stays, group)
	g.stays = nil
	for _, s := range all {
		if g.gone || isEmpty(s) {
			s.Release()
		} else {
			g.stays = append(g.stays, s)
		}
	}
}

// leave gives back what was kept: the process has ended, with all in its PID namespace.
func (g *guests) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gone = true
	for _, s := range g.stays {
		s.Release()
	}
	g.stays = nil
	g.held.Wait() // not for long: nobody is there any more
}

// hold has f run until the process has ended.
func (g *guests) hold(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone {
		f() // not for long
		return
	}
	g.held.Go(f)
}

// isEmpty says whether nobody is in a group, if that is known.
func isEmpty(g *cgroup.Group) bool {
	u, err := g.Usage()
	return err == nil && u.PIDs.Measured && u.PIDs.Value == 0
}

// host is in whose namespaces p is: its own, or those of the first that it was started beside.
func (p *process) host() *process {
	if p != nil && p.beside != nil {
		return p.beside
	}
	return p
}

// isBeside says whether p was started beside another command.
func (p *process) isBeside() bool { return p.beside != nil }

// startBeside starts the command in the namespaces of another one.
func (p *process) startBeside(ctx context.Context, w world.Command) (*world.Process, error) {
	host := p.beside
	host.kills.Lock()
	child, ended := host.child, host.kills.ended
	host.kills.Unlock()
	if child == nil || ended || !host.guests.admit() {
		return nil, os.ErrProcessDone
	}
	child.Attend(func() { p.core.endBeside(host) })
	return p.box.world.StartIn(ctx, child, w)
}

// endBeside kills what is beside a process that is about to end: what the kernel kills then may still have to be seen to.
func (c *core) endBeside(host *process) {
	c.mu.Lock()
	var guests []*process
	for p := range c.procs {
		if p.beside == host {
			guests = append(guests, p)
		}
	}
	c.mu.Unlock()
	for _, p := range guests {
		p.kills.Lock()
		if p.child != nil && !p.kills.ended && p.child.Kill() == nil {
			time.AfterFunc(heldGrace, p.letGo) // nothing but a timer of a second
		}
		p.kills.Unlock()
	}
}

// heldGrace is how long a command that was killed may take to end.
const heldGrace = time.Second

// waitBeside waits for the end of a command beside another one, whose processes can trace it (ptrace(2)). Of one that is
// traced the kernel tells its tracer first, and the parent when that has taken note: never, if it likes. When the command
// has been killed, it is over for us nevertheless.
func (p *process) waitBeside() (spawn.State, error) {
	state, err := p.child.Wait(p.held)
	if err != nil && p.held.Err() != nil {
		return spawn.State{Status: unix.WaitStatus(unix.SIGKILL), Known: true}, nil
	}
	p.letGo()
	return state, err
}

// closeChild gives back what is held of the child. One that couldn't be waited for can be when its host has ended, whose end
// needs that.
func (p *process) closeChild() error {
	switch {
	case p.child == nil:
		return nil
	case p.beside == nil:
		return p.child.Close()
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := p.child.Wait(ended); err == nil {
		return p.child.Close()
	}
	p.beside.guests.hold(func() { // ends with the host
		_, _ = p.child.Wait(context.Background())
		_ = p.child.Close()
	})
	return nil
}

// endGroup ends, after a command that was killed, what it has left of its tree: beside another one nobody else does.
func (p *process) endGroup(reason Status) {
	if p.beside == nil || p.leaf == nil || reason == Lost {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = p.leaf.Kill(ctx) // what is left then ends with the namespace
}

// leaveGroups gives back the command's cgroup. One beside another can leave processes behind, which live on in it.
func (p *process) leaveGroups() {
	p.guests.leave()
	switch {
	case p.leaf == nil:
	case p.beside == nil || isEmpty(p.leaf):
		p.leaf.Release()
	default:
		p.beside.guests.keep(p.leaf)
	}
}
