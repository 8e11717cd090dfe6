package sandbox

import (
	"syscall"
	"time"

	"github.com/seed-5a9fb6e0/sandbox/cgroup"
	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// judge decides how the command ended, by what the kernel counted. reason is why
// we killed it, Lost if we did not.
func (p *process) judge(state spawn.State, reason Status) {
	r := p.result
	r.ExitCode = -1
	killed := state.Known && state.Status.Signaled() && state.Status.Signal() == syscall.SIGKILL
	oom := p.hits(killed)
	switch ws := state.Status; {
	case p.unstarted.Load():
		r.Status, r.Signal, r.ExitCode = MemoryLimit, syscall.SIGKILL, 128+int(syscall.SIGKILL)
	case !state.Known:
		r.Status = Lost
	case ws.Exited():
		r.Status, r.ExitCode = Exited, ws.ExitStatus()
	default:
		r.Status, r.Signal = Signaled, ws.Signal()
		r.ExitCode = 128 + int(r.Signal)
	}
	switch {
	case killed && reason != Lost && reason != MemoryLimit:
		r.Status = reason
	case oom != Lost:
		// Also when it ended by itself meanwhile: without the kill it would have gone
		// on otherwise.
		r.Status = oom
	case r.Signal == syscall.SIGXFSZ && p.limits.FileSize > 0:
		r.Status = FileSizeLimit
		p.hit(FileSizeLimit, p.cmd.Limits.FileSize > 0)
	}
	if reason == WallLimit {
		p.hit(WallLimit, p.cmd.Limits.Wall > 0)
	}
	if u := &r.Usage; reason == CPULimit || p.limits.CPUTime > 0 && u.CPUSource == FromCgroup && u.User+u.System > p.limits.CPUTime {
		p.hit(CPULimit, p.cmd.Limits.CPUTime > 0)
	}
}

// hit notes a limit that was touched: the command's own, or the sandbox's default.
func (p *process) hit(s Status, own bool) {
	scope := ScopeSandbox
	if own {
		scope = ScopeCmd
	}
	p.result.Hit = append(p.result.Hit, Hit{s, scope})
}

// hits notes what limits the command's cgroup ran into, and returns which kind
// of memory a process was killed for, Lost if none was.
// killed says that it ended by SIGKILL.
func (p *process) hits(killed bool) (oom Status) {
	add := func(s Status, scope Scope) { p.result.Hit = append(p.result.Hit, Hit{s, scope}) }
	if p.unstarted.Load() {
		scope := ScopeSandbox
		if p.ownMemoryHits() > 0 {
			scope = ScopeCmd
		}
		add(MemoryLimit, scope)
		return MemoryLimit
	}
	if p.leaf == nil || p.cmd.Limits.touchless() && p.sum.touchless() && !killed {
		return Lost // nothing was there to run into
	}
	ev, err := p.leaf.Events()
	if err != nil {
		return Lost
	}
	sum := p.sandboxHits()
	if ev.OOMKills.Value > 0 {
		switch {
		case ranOut(ev):
			oom = MemoryLimit
			add(oom, ScopeCmd)
		case sum.memory > 0:
			oom = MemoryLimit
			add(oom, ScopeSandbox)
		default:
			oom = HostOOM
			add(oom, ScopeHost)
		}
	}
	switch own := ev.PIDsHits.Value; {
	case own > 0 && p.cmd.Limits.PIDs > 0:
		add(PIDsLimit, ScopeCmd)
	case own > 0 || sum.pids > 0: // before Linux 6.11, and on v1, a group counts the hits of those above
		add(PIDsLimit, ScopeSandbox)
	}
	if ev.Throttled.Value > 0 {
		add(CPUThrottled, ScopeCmd)
	}
	if sum.throttled > 0 {
		add(CPUThrottled, ScopeSandbox)
	}
	return oom
}

// ownMemoryHits is how often the command's own limit of memory was touched.
func (p *process) ownMemoryHits() int64 {
	if p.leaf == nil {
		return 0
	}
	ev, _ := p.leaf.Events() // unknown is 0
	return ev.MemoryHits.Value
}

// ranOut says whether it was the cgroup's own limit that there was no memory for.
func ranOut(ev cgroup.Events) bool {
	if ev.OOMs.Measured {
		return ev.OOMs.Value > 0
	}
	return ev.MemoryHits.Value > 0
}

// touchless says that l has none of the limits that can be touched without an end
// that we bring about.
func (l *Limits) touchless() bool {
	return l.Memory == 0 && l.PIDs == 0 && l.CPUs == 0
}

// touches are how often limits were touched.
type touches struct{ memory, pids, throttled int64 }

// sandboxHits is how often the limits of the sandbox's own cgroup were touched
// while the command ran.
func (p *process) sandboxHits() touches {
	if p.box.group == nil {
		return touches{}
	}
	ev, err := p.box.group.Events()
	if err != nil {
		return touches{}
	}
	was := p.before
	t := touches{ev.MemoryHits.Value - was.MemoryHits.Value, ev.PIDsHits.Value - was.PIDsHits.Value, ev.Throttled.Value - was.Throttled.Value}
	if ev.OOMs.Measured {
		t.memory = ev.OOMs.Value - was.OOMs.Value
	}
	return t
}

// usage reads what the command used.
func (p *process) usage(state spawn.State, wall time.Duration) Usage {
	u := Usage{Wall: wall, WallSource: FromClock}
	if state.Rusage != nil {
		// Not its maxrss: over a vfork that starts at the embedder's (getrusage(2)).
		u.User, u.System = time.Duration(state.Rusage.Utime.Nano()), time.Duration(state.Rusage.Stime.Nano())
		u.CPUSource = FromRusage
	}
	if p.leaf == nil {
		return u
	}
	g := p.used
	if g == nil {
		used, err := p.leaf.Usage()
		if err != nil {
			return u
		}
		g = &used
	}
	if g.User.Measured && g.System.Measured {
		u.User, u.System, u.CPUSource = g.User.Value, g.System.Value, FromCgroup
	}
	if g.MemoryPeak.Measured {
		u.MemoryPeak, u.MemorySource = g.MemoryPeak.Value, FromCgroup
	}
	if g.PIDsPeak.Measured {
		u.PIDsPeak, u.PIDsSource = g.PIDsPeak.Value, FromCgroup
	}
	if g.ReadBytes.Measured && g.WriteBytes.Measured {
		u.ReadBytes, u.WriteBytes, u.IOSource = g.ReadBytes.Value, g.WriteBytes.Value, FromCgroup
	}
	return u
}
