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
	r := figures{read: g.meters.read}
	if h := g.in(CPUAcct); h != nil {
		g.cpuUsage(h, &u, &r)
	}
	if h := g.in(Memory); h != nil && h.v2 {
		u.Memory, u.MemoryPeak = r.number(g.dir(h)+"/memory.current"), r.number(g.dir(h)+"/memory.peak")
	} else if h != nil {
		u.Memory, u.MemoryPeak = r.number(g.dir(h)+"/memory.usage_in_bytes"), r.number(g.dir(h)+"/memory.max_usage_in_bytes")
	}
	if h := g.in(PIDs); h != nil {
		u.PIDs, u.PIDsPeak = r.number(g.dir(h)+"/pids.current"), r.number(g.dir(h)+"/pids.peak")
	}
	return u, r.err
}

func (g *Group) cpuUsage(h *hierarchy, u *Usage, r *figures) {
	dir := g.dir(h)
	if h.v2 {
		m := r.keys(dir + "/cpu.stat")
		u.CPU = duration(key(m, "usage_usec"), time.Microsecond)
		u.User = duration(key(m, "user_usec"), time.Microsecond)
		u.System = duration(key(m, "system_usec"), time.Microsecond)
		return
	}
	u.CPU = duration(r.number(dir+"/cpuacct.usage"), 1)
	user, system := r.number(dir+"/cpuacct.usage_user"), r.number(dir+"/cpuacct.usage_sys")
	if u.CPU.Measured && user.Measured && system.Measured {
		u.User.Value, u.System.Value = split(int64(u.CPU.Value), user.Value, system.Value)
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
	r := figures{read: g.meters.read}
	if h := g.in(Memory); h != nil {
		g.memoryEvents(h, &e, &r)
	}
	if h := g.in(PIDs); h != nil {
		e.PIDsHits = key(g.pidsEvents(h, &r), "max")
	}
	if h := g.in(CPU); h != nil {
		m := r.keys(g.dir(h) + "/cpu.stat")
		e.Throttled = key(m, "nr_throttled")
		e.ThrottledTime = duration(key(m, "throttled_time"), 1)
		if h.v2 {
			e.ThrottledTime = duration(key(m, "throttled_usec"), time.Microsecond)
		}
	}
	return e, r.err
}

// memoryEvents adds up v1's two counters: a charge that the limit of memory with swap refuses does not get to the
// other (try_charge_memcg in mm/memcontrol.c).
func (g *Group) memoryEvents(h *hierarchy, e *Events, r *figures) {
	dir := g.dir(h)
	if h.v2 {
		m := r.local(dir + "/memory.events")
		e.MemoryHits, e.OOMKills = key(m, "max"), key(m, "oom_kill")
		return
	}
	e.OOMKills = key(r.keys(dir+"/memory.oom_control"), "oom_kill") // Linux 4.13
	e.MemoryHits = r.number(dir + "/memory.failcnt")
	if !g.tree.m.noMemsw {
		e.MemoryHits.Value += r.number(dir + "/memory.memsw.failcnt").Value
	}
}

// pidsEvents reads what on v1 is the group's own anyway.
func (g *Group) pidsEvents(h *hierarchy, r *figures) map[string]int64 {
	if h.v2 {
		return r.local(g.dir(h) + "/pids.events")
	}
	return r.keys(g.dir(h) + "/pids.events")
}

func (g *Group) alive(op string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return errClosed(op, g.rel)
	}
	return nil
}
