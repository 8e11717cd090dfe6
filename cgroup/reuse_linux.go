package cgroup

// A leaf in which a command left no trace serves the next one: to make and to remove directories in several v1
// hierarchies takes the kernel as long as all the rest of a short command. Only v1's counters can be set back, and not
// all of them; whoever touched one of the others, or left memory charged, has its leaf removed.

// reusable are the controllers of which clean and reset know everything.
const reusable = Memory | CPU | CPUAcct | PIDs | CPUSet | Devices

// leftover is how many bytes may still be charged: what the kernel has charged ahead, on two processors
// (MEMCG_CHARGE_BATCH in mm/memcontrol.c). The next charges are served from it.
const leftover = 512 << 10

// reuse puts the directories of g, which is shut, back into the pool as another group; it is false when they have to be
// removed.
func (g *Group) reuse() bool {
	p := &g.parent.pool
	if !g.leaf || !g.untouched() || !p.active() || !g.update.TryLock() {
		return false
	}
	defer g.update.Unlock()
	if !g.clean() || !g.reset() {
		return false
	}
	c := g.successor()
	if c == nil {
		return false
	}
	p.put(c, nil)
	p.noteReturn(true)
	return true
}

// untouched says whether nobody can act any more on who is in the directories.
func (g *Group) untouched() bool {
	if g.own&^reusable != 0 || g.own&PIDs == 0 {
		return false
	}
	for _, h := range g.tree.m.hier {
		if h.v2 && h.ctl&g.own != 0 {
			return false
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lent == 0 && !g.meddled && len(g.children) == 0 && g.made != 0
}

// meddle notes a call that may act on who is in g's directories even after Release.
func (g *Group) meddle() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.meddled = true
}

// clean says whether nobody is in g and its counters, but for those that reset sets back, are as those of a new one. A
// peak of one process is what the next command has anyway; before Linux 6.1 there is none.
func (g *Group) clean() bool {
	g.meters.mu.Lock()
	defer g.meters.mu.Unlock()
	r := figures{g: g}
	zero := func(f Figure[int64]) bool { return f.Value == 0 }
	pids := g.in(PIDs)
	if f := r.number(pids, "pids.current"); !f.Measured || f.Value != 0 {
		return false
	}
	ok := r.number(pids, "pids.peak").Value <= 1 && zero(key(pidsEvents(pids, &r), "max"))
	if h := g.in(Memory); ok && h != nil {
		var e Events
		g.memoryEvents(h, &e, &r)
		ok = zero(e.OOMKills) && zero(e.MemoryHits) && r.number(h, "memory.usage_in_bytes").Value <= leftover
	}
	if h := g.in(CPU); ok && h != nil {
		ok = zero(key(r.text(h, "cpu.stat"), "nr_throttled"))
	}
	return ok && r.err == nil
}

// resets are the files to which a 0 is written to set them back (Documentation/admin-guide/cgroup-v1/memory.rst, 5.1;
// cpuacct_css_write in kernel/sched/cpuacct.c takes nothing else).
var resets = []struct {
	c    Controllers
	file string
}{{CPUAcct, "cpuacct.usage"}, {Memory, "memory.max_usage_in_bytes"}}

func isReset(file string) bool {
	for _, r := range resets {
		if r.file == file {
			return true
		}
	}
	return false
}

// reset sets the counters back; it is false when one of them can't be.
func (g *Group) reset() bool {
	g.meters.mu.Lock()
	defer g.meters.mu.Unlock()
	for _, r := range resets {
		if h := g.in(r.c); h != nil && g.writeMeter(h, r.file, "0") != nil {
			return false
		}
	}
	return true
}

// settled is true for a leaf whose figures begin anew. The kernel charges a process for its last steps when it leaves the
// processor for good, which can be after its parent has waited for it (do_task_dead in kernel/sched/core.c): what came in
// since reset is taken back. It is false when that can't be.
func (g *Group) settled() bool {
	h := g.in(CPUAcct)
	if !g.reused || h == nil {
		return true
	}
	g.meters.mu.Lock()
	defer g.meters.mu.Unlock()
	r := figures{g: g}
	if r.number(h, "cpuacct.usage").Value == 0 && r.err == nil {
		return true
	}
	return g.writeMeter(h, "cpuacct.usage", "0") == nil
}

// successor takes over g's directories and descriptors; nil: another call uses them, or the tree is closed. Tree.mu is held against an Update
// of a group above, which writes to those below it.
func (g *Group) successor() *Group {
	g.tree.mu.Lock()
	defer g.tree.mu.Unlock()
	if g.tree.closed {
		return nil
	}
	g.meters.mu.Lock()
	defer g.meters.mu.Unlock()
	c := g.bequeath()
	if c == nil {
		return nil
	}
	c.pool.parent = c
	c.meters.open, g.meters.open = g.meters.open, nil
	g.parent.replace(g, c)
	return c
}

func (g *Group) bequeath() *Group {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.meddled || g.made == 0 {
		return nil
	}
	c := &Group{tree: g.tree, parent: g.parent, name: g.name, rel: g.rel, own: g.own, leaf: true, reused: true,
		made: g.made, limits: g.limits, applied: g.applied, children: map[string]*Group{}, files: g.files}
	g.made, g.files = 0, nil
	return c
}

// replace has c in the place of old.
func (g *Group) replace(old, c *Group) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.children[c.name] == old {
		g.children[c.name] = c
	}
}
