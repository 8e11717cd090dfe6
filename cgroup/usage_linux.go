package cgroup

import "time"

// Usage reads what g has used. A figure that can't be measured here is no error. Error: os.ErrClosed after Remove,
// Release or Close.
func (g *Group) Usage() (Usage, error) {
	g.meters.mu.Lock()
	defer g.meters.mu.Unlock()
	if err := g.alive("usage"); err != nil {
		return Usage{}, err
	}
	var u Usage
	r := figures{g: g}
	if h := g.in(CPUAcct); h != nil {
		cpuUsage(h, &u, &r)
	}
	if h := g.in(Memory); h != nil && h.v2 {
		u.Memory, u.MemoryPeak = r.number(h, "memory.current"), r.number(h, "memory.peak")
	} else if h != nil {
		u.Memory, u.MemoryPeak = r.number(h, "memory.usage_in_bytes"), r.number(h, "memory.max_usage_in_bytes")
	}
	if h := g.in(PIDs); h != nil {
		u.PIDs, u.PIDsPeak = r.number(h, "pids.current"), r.number(h, "pids.peak")
	}
	return u, r.err
}

func cpuUsage(h *hierarchy, u *Usage, r *figures) {
	if h.v2 {
		text := r.text(h, "cpu.stat")
		u.CPU = duration(key(text, "usage_usec"), time.Microsecond)
		u.User = duration(key(text, "user_usec"), time.Microsecond)
		u.System = duration(key(text, "system_usec"), time.Microsecond)
		return
	}
	u.CPU = duration(r.number(h, "cpuacct.usage"), 1)
	user, system, ok := parseUsageAll(r.text(h, "cpuacct.usage_all"))
	if u.CPU.Measured && ok {
		u.User.Value, u.System.Value = split(int64(u.CPU.Value), user, system)
		u.User.Measured, u.System.Measured = true, true
	}
}

// Events reads how often limits were touched. A figure that can't be measured here is no error. Error: os.ErrClosed
// after Remove, Release or Close.
func (g *Group) Events() (Events, error) {
	g.meters.mu.Lock()
	defer g.meters.mu.Unlock()
	if err := g.alive("events"); err != nil {
		return Events{}, err
	}
	var e Events
	r := figures{g: g}
	if h := g.in(Memory); h != nil {
		g.memoryEvents(h, &e, &r)
	}
	if h := g.in(PIDs); h != nil {
		e.PIDsHits = key(pidsEvents(h, &r), "max")
	}
	if h := g.in(CPU); h != nil {
		text := r.text(h, "cpu.stat")
		e.Throttled = key(text, "nr_throttled")
		e.ThrottledTime = duration(key(text, "throttled_time"), 1)
		if h.v2 {
			e.ThrottledTime = duration(key(text, "throttled_usec"), time.Microsecond)
		}
	}
	return e, r.err
}

// memoryEvents adds up v1's two counters: a charge that the limit of memory with swap refuses does not get to the
// other (try_charge_memcg in mm/memcontrol.c).
func (g *Group) memoryEvents(h *hierarchy, e *Events, r *figures) {
	if h.v2 {
		text := r.local(h, "memory.events")
		e.MemoryHits, e.OOMKills = key(text, "max"), key(text, "oom_kill")
		return
	}
	e.OOMKills = key(r.text(h, "memory.oom_control"), "oom_kill") // Linux 4.13
	e.MemoryHits = r.number(h, "memory.failcnt")
	if !g.tree.m.noMemsw {
		e.MemoryHits.Value += r.number(h, "memory.memsw.failcnt").Value
	}
}

// pidsEvents reads what on v1 is the group's own anyway.
func pidsEvents(h *hierarchy, r *figures) string {
	if h.v2 {
		return r.local(h, "pids.events")
	}
	return r.text(h, "pids.events")
}

func (g *Group) alive(op string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return errClosed(op, g.rel)
	}
	return nil
}
