package cgroup

import "errors"

// Update replaces the limits of g while its processes run. After an error the old ones hold. Errors: fs.ErrInvalid,
// os.ErrClosed, errors.ErrUnsupported for a controller that g was not made with, *InUseError for Memory (v1: or Swap)
// below what is in use and can't be reclaimed. PIDs, HugeTLB and v2's Swap below what is in use end nobody: nothing more
// is granted until it is less.
func (g *Group) Update(l Limits) error {
	t := g.tree
	if err := t.valid(l); err != nil {
		return err
	}
	if err := g.has(l.needs()); err != nil {
		return err
	}
	l = l.clone()
	g.update.Lock()
	defer g.update.Unlock()
	if err := g.alive("update"); err != nil {
		return err
	}
	old := g.Limits()
	err := g.amounts(l)
	if err == nil && !l.sameShares(old) {
		err = g.shares(l)
	}
	if err != nil {
		return errors.Join(err, g.amounts(old))
	}
	return nil
}

// has returns an error for controllers that g was not made with.
func (g *Group) has(c Controllers) error {
	missing := c &^ g.own
	if missing == 0 {
		return nil
	}
	if err := g.tree.m.check(missing); err != nil {
		return err
	}
	return &UnsupportedError{What: missing.String() + " controller", Err: errors.New("the group was made without it"),
		Remedy: "name it in Options.Controllers, or make the group with such a limit"}
}

// amounts changes what doesn't depend on other groups. The kernel may reclaim memory for as long as a second: no lock of
// the tree is held.
func (g *Group) amounts(l Limits) error {
	from := g.state()
	to := l.withShares(from)
	if from.sameAmounts(to) {
		g.setAmounts(l)
		return nil
	}
	restore, err := g.shrink(from, to)
	if err == nil {
		err = g.rewrite(from, to)
	}
	if err != nil {
		return errors.Join(err, g.rewrite(to, from), restore(from))
	}
	g.setAmounts(l)
	return restore(to)
}

func (g *Group) setAmounts(l Limits) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limits, g.applied = l.withShares(g.limits), l.withShares(g.applied)
}

// shares changes the others, and those of the groups below that they make tighter or loose again.
func (g *Group) shares(l Limits) error {
	g.tree.mu.Lock()
	defer g.tree.mu.Unlock()
	if err := g.ioAlone(l); err != nil {
		return err
	}
	old := g.Limits()
	if err := g.settle(l); err != nil {
		return errors.Join(err, g.settle(old))
	}
	return nil
}

// settle writes what l's shares come to under the groups above. v1 refuses what is looser than above or tighter than
// below, so g takes both the old and the new in between. Tree.mu is held.
func (g *Group) settle(l Limits) error {
	to, err := g.effective(l)
	if err != nil {
		return err
	}
	from := g.state()
	between, final := from.withShares(to), from.withShares(to)
	between.CPUs, between.CPUSet = looserCPUs(from, to), looserCPUSet(from.CPUSet, to.CPUSet)
	between.Devices = looserDevices(from.Devices, to.Devices)
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
	g.limits, g.applied = g.limits.withShares(given), g.applied.withShares(applied)
}

// rewrite writes what differs.
func (g *Group) rewrite(from, to Limits) error {
	for _, h := range g.tree.m.hier {
		if h.ctl&g.own == 0 {
			continue
		}
		if err := g.apply(h, from, to); err != nil {
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

// looserCPUs is the CPUs of the one that grants more. With different periods they are not to be compared to the
// microsecond, as the kernel does.
func looserCPUs(a, b Limits) float64 {
	if a.CPUs == 0 || b.CPUs == 0 || a.period() != b.period() {
		return 0
	}
	return max(a.CPUs, b.CPUs)
}

func looserCPUSet(a, b string) string {
	if a == "" || b == "" {
		return ""
	}
	x, _ := parseCPUSet(a)
	y, _ := parseCPUSet(b)
	return x.or(y).String()
}
