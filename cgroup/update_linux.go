package cgroup

import "errors"

// Update replaces the limits of g while its processes run. After an error the old ones hold. Errors: fs.ErrInvalid,
// os.ErrClosed, errors.ErrUnsupported for a controller that g was not made with, EBUSY for Memory below what is in use
// and can't be reclaimed (v1; v2 kills).
func (g *Group) Update(l Limits) error {
	t := g.tree
	if err := t.valid(l); err != nil {
		return err
	}
	if missing := l.needs() &^ g.own; missing != 0 {
		return &UnsupportedError{What: missing.String() + " controller", Err: errors.New("the group was made without it"),
			Remedy: "name it in Options.Controllers, or make the group with such a limit"}
	}
	g.update.Lock()
	defer g.update.Unlock()
	if err := g.alive("update"); err != nil {
		return err
	}
	old := g.Limits()
	err := g.amounts(l)
	if err == nil && (l.CPUs != old.CPUs || l.CPUSet != old.CPUSet) {
		err = g.shares(l)
	}
	if err != nil {
		return errors.Join(err, g.amounts(old))
	}
	return nil
}

// amounts changes memory, swap and tasks. The kernel may reclaim memory for as long as a second: no lock of the tree
// is held.
func (g *Group) amounts(l Limits) error {
	from := g.state()
	to := from
	to.Memory, to.Swap, to.PIDs = l.Memory, l.Swap, l.PIDs
	if err := g.rewrite(from, to); err != nil {
		return errors.Join(err, g.rewrite(to, from))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limits.Memory, g.limits.Swap, g.limits.PIDs = l.Memory, l.Swap, l.PIDs
	g.applied.Memory, g.applied.Swap, g.applied.PIDs = l.Memory, l.Swap, l.PIDs
	return nil
}

// shares changes CPUs and CPUSet, and those of the groups below that they make tighter or loose again.
func (g *Group) shares(l Limits) error {
	g.tree.mu.Lock()
	defer g.tree.mu.Unlock()
	old := g.Limits()
	if err := g.settle(l); err != nil {
		return errors.Join(err, g.settle(old))
	}
	return nil
}

// settle writes what l's CPUs and CPUSet come to under the groups above. v1 refuses what is looser than above or
// tighter than below, so g takes both the old and the new in between. Tree.mu is held.
func (g *Group) settle(l Limits) error {
	to, err := g.effective(l)
	if err != nil {
		return err
	}
	from := g.state()
	between, final := from, from
	between.CPUs, between.CPUSet = looserCPUs(from.CPUs, to.CPUs), looserCPUSet(from.CPUSet, to.CPUSet)
	final.CPUs, final.CPUSet = to.CPUs, to.CPUSet
	if err := g.rewrite(from, between); err != nil {
		return err
	}
	g.setShares(l, between)
	for _, c := range g.below() {
		if err := c.settle(c.Limits()); ignoreGone(err) != nil {
			return err
		}
	}
	if err := g.rewrite(between, final); err != nil {
		return err
	}
	g.setShares(l, final)
	return nil
}

func (g *Group) setShares(given, applied Limits) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limits.CPUs, g.limits.CPUSet = given.CPUs, given.CPUSet
	g.applied.CPUs, g.applied.CPUSet = applied.CPUs, applied.CPUSet
}

// rewrite writes what differs.
func (g *Group) rewrite(from, to Limits) error {
	for _, h := range g.tree.m.hier {
		if h.ctl&g.own == 0 {
			continue
		}
		if err := g.write(h, changes(g.settings(h, from), g.settings(h, to))); err != nil {
			return err
		}
	}
	return nil
}

// state is what the files hold.
func (g *Group) state() Limits {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.applied
}

// below lists the groups in g.
func (g *Group) below() []*Group {
	g.mu.Lock()
	defer g.mu.Unlock()
	cs := make([]*Group, 0, len(g.children))
	for _, c := range g.children {
		cs = append(cs, c)
	}
	return cs
}

func looserCPUs(a, b float64) float64 {
	if a == 0 || b == 0 {
		return 0
	}
	return max(a, b)
}

func looserCPUSet(a, b string) string {
	if a == "" || b == "" {
		return ""
	}
	x, _ := parseCPUSet(a)
	y, _ := parseCPUSet(b)
	return x.or(y).String()
}
