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
		u.PIDs, u.PIDsPeak = r.number(h, "pids.current"), g.pidsPeak(h, &r)
	}
	if h := g.in(IO); h != nil {
		ioUsage(h, &u, &r)
	}
	if h := g.in(HugeTLB); h != nil {
		u.HugeTLB = hugeUsage(h, &r)
	}
	return u, r.err
}

// pidsPeak is of this command alone: a clean leaf may have had one process before.
func (g *Group) pidsPeak(h *hierarchy, r *figures) Figure[int64] {
	peak := r.number(h, "pids.peak")
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.reused && !g.held {
		peak.Value = 0
	}
	return peak
}

func ioUsage(h *hierarchy, u *Usage, r *figures) {
	var bytes, ops ioCount
	measured := true
	if h.v2 {
		bytes, ops = parseIOStat(r.text(h, "io.stat"))
	} else {
		text := r.text(h, "blkio.throttle.io_service_bytes_recursive")
		measured = text != ""
		bytes, ops = parseIOServiced(text), parseIOServiced(r.text(h, "blkio.throttle.io_serviced_recursive"))
	}
	if r.err != nil || !measured {
		return
	}
	u.ReadBytes, u.WriteBytes = Figure[int64]{bytes.read, true}, Figure[int64]{bytes.write, true}
	u.ReadOps, u.WriteOps = Figure[int64]{ops.read, true}, Figure[int64]{ops.write, true}
}

func hugeUsage(h *hierarchy, r *figures) map[int64]int64 {
	file := ".usage_in_bytes"
	if h.v2 {
		file = ".current"
	}
	m := map[int64]int64{}
	for _, size := range hugePages() {
		if f := r.number(h, "hugetlb."+hugePage(size)+file); f.Measured {
			m[size] = f.Value
		}
	}
	return m
}

// MemoryStat reads what the memory of g is. It costs more than Usage. Errors: os.ErrClosed after Remove, Release or
// Close; errors.ErrUnsupported when g was made without the memory controller.
func (g *Group) MemoryStat() (MemoryStat, error) {
	g.meters.mu.Lock()
	defer g.meters.mu.Unlock()
	if err := g.alive("memory"); err != nil {
		return MemoryStat{}, err
	}
	if err := g.has(Memory); err != nil {
		return MemoryStat{}, err
	}
	h, r := g.in(Memory), figures{g: g}
	text := r.text(h, "memory.stat")
	if h.v2 {
		return MemoryStat{key(text, "anon"), key(text, "file"), key(text, "shmem"), r.number(h, "memory.swap.current")}, r.err
	}
	// Those with total_ have what is below.
	return MemoryStat{key(text, "total_rss"), key(text, "total_cache"), key(text, "total_shmem"), key(text, "total_swap")}, r.err
}

// CPU reads the processor time that g has used, User and System together: less than Usage reads. Errors:
// errors.ErrUnsupported when g was made without the CPUAcct controller, os.ErrClosed as Usage.
func (g *Group) CPU() (time.Duration, error) {
	g.meters.mu.Lock()
	defer g.meters.mu.Unlock()
	if err := g.alive("usage"); err != nil {
		return 0, err
	}
	h := g.in(CPUAcct)
	if h == nil {
		return 0, g.has(CPUAcct)
	}
	r := figures{g: g}
	if h.v2 {
		return duration(key(r.text(h, "cpu.stat"), "usage_usec"), time.Microsecond).Value, r.err
	}
	return time.Duration(r.number(h, "cpuacct.usage").Value), r.err
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
		e.MemoryHits, e.OOMKills, e.OOMs = key(text, "max"), key(text, "oom_kill"), key(text, "oom")
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
