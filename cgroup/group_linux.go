package cgroup

import (
	"context"
	"errors"
	"math/bits"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Group is a cgroup of a Tree: one directory in each hierarchy that its limits and Options.Controllers need. It holds
// processes or groups, never both: that is v2's rule, and what works on v1 shall work there. All methods may be called
// concurrently.
type Group struct {
	tree   *Tree
	parent *Group // nil: the top of the tree, which has no directory
	name   string
	rel    string      // path below hierarchy.parent
	own    Controllers // what it was made with
	leaf   bool        // of its parent's pool
	pool   pool
	meters meters

	enabled Controllers // v2: what the groups below can have; Tree.mu is held

	update sync.Mutex // one Update at a time

	mu       sync.Mutex
	made     uint32 // a bit for each hierarchy with a directory of ours
	limits   Limits // as given
	applied  Limits // as written: never looser than those above
	children map[string]*Group
	held     bool // processes were let in
	meddled  bool // by a call that could still act on who comes next
	reused   bool // the directories had another command before
	closed   bool
	files    *Join // opened ahead, or come back
	lent     int   // Joins that are out
	waiters  map[*waiter]struct{}
}

// New makes a group below g, with l for all that it will hold. Errors: fs.ErrInvalid (*FieldError), fs.ErrExist,
// errors.ErrUnsupported (*UnsupportedError: a controller or delegation that is missing), os.ErrClosed, and EBUSY when
// g itself holds processes. After an error nothing of it is left.
func (g *Group) New(name string, l Limits) (*Group, error) {
	if reason := badName(name); reason != "" {
		return nil, &FieldError{"name", name, reason}
	}
	if err := g.tree.valid(l); err != nil {
		return nil, err
	}
	return g.make(name, l, false)
}

// valid checks l with the machine at hand.
func (t *Tree) valid(l Limits) error {
	if err := l.Validate(); err != nil {
		return err
	}
	return t.m.supported(l)
}

func (g *Group) make(name string, l Limits, leaf bool) (*Group, error) {
	t := g.tree
	t.mu.Lock()
	defer t.mu.Unlock()
	rel := g.rel + "/" + name
	if g.parent == nil {
		rel = g.rel + name
	}
	own, err := g.controllers(l)
	if err != nil {
		return nil, err
	}
	c := &Group{tree: t, parent: g, name: name, rel: rel, own: own, leaf: leaf, limits: l.clone(), children: map[string]*Group{}}
	c.pool.parent = c
	if c.own == 0 {
		return nil, &UnsupportedError{What: "group", Err: errors.New("no cgroup is mounted"), Remedy: t.m.remedy("unified")}
	}
	if err := g.adopt(c); err != nil {
		return nil, err
	}
	k := &making{t: t}
	if err := c.build(k); err != nil {
		k.undo()
		g.disown(c)
		return nil, err
	}
	return c, nil
}

// controllers are those of a group below g with l.
func (g *Group) controllers(l Limits) (Controllers, error) {
	need, asked := l.needs(), g.tree.opts.Controllers
	if (need|asked)&IO != 0 && g.ioAbove() {
		if need&IO != 0 {
			return 0, ioNested(g.rel)
		}
		asked &^= IO
	}
	return g.tree.m.needs(asked | need), nil
}

// needs adds to the empty set something that makes a directory: without one processes could not be found again. First
// comes pids, by which Kill stops a fork bomb. On v2 the core's come with any other.
func (m *machine) needs(c Controllers) Controllers {
	for _, other := range []Controllers{PIDs, Freezer, CPUAcct, Memory, CPU, CPUSet, IO, HugeTLB, Devices, Unified} {
		if c == 0 {
			c = other & m.available()
		}
	}
	for _, h := range m.hier {
		if h.v2 && h.ctl&c != 0 {
			c |= h.ctl & core
		}
	}
	return c
}

// build makes c's directories and writes its limits. Tree.mu is held.
func (g *Group) build(k *making) error {
	applied, err := g.effective(g.limits)
	if err != nil {
		return err
	}
	for _, h := range g.tree.m.hier {
		if h.ctl&g.own == 0 {
			continue
		}
		if err := g.mkdir(k, h); err != nil {
			return err
		}
		if err := g.apply(h, g.born(h), applied); err != nil {
			return err
		}
	}
	g.applied = applied
	return nil
}

// mkdir makes g's directory in h and what it needs above. Another owner who closes may remove the tree's parent at any
// moment before the first directory is in it.
func (g *Group) mkdir(k *making, h *hierarchy) error {
	for tries := 100; ; tries-- {
		err := k.ensure(g.parent, h)
		if err == nil {
			err = g.tree.m.enable(g, h, g.own)
		}
		if err == nil {
			err = k.ensure(g, h)
		}
		if !gone(err) || tries == 0 || g.parent.isMade(h) || g.isMade(h) {
			return err
		}
		h.drop()
		g.tree.root.enabled = 0
	}
}

// born is what a new directory holds: no limits, but for v1's list of devices, which it has from the one above.
func (g *Group) born(h *hierarchy) Limits {
	var l Limits
	for p := g.parent; p != nil && !h.v2 && l.Devices == nil; p = p.parent {
		if p.own&Devices != 0 {
			l.Devices = p.state().Devices
		}
	}
	return l
}

// apply writes what differs.
func (g *Group) apply(h *hierarchy, from, to Limits) error {
	m := g.tree.m
	if err := g.write(h, changes(m.settings(h, g.own, from), m.settings(h, g.own, to))); err != nil {
		return err
	}
	if err := g.writeIOWeight(h, from, to); err != nil {
		return err
	}
	return g.writeDevices(h, from, to)
}

func (g *Group) write(h *hierarchy, s []setting) error {
	for _, w := range s {
		err := g.writeSetting(h, w)
		if w.file == "memory.swap.max" && errors.Is(err, unix.ENOENT) {
			if w.value == "0" || w.value == "max" {
				continue // A kernel without swap (CONFIG_SWAP): none can be used.
			}
			return &UnsupportedError{What: "swap limit", Remedy: "boot with swapaccount=1", Err: err}
		}
		switch {
		case errors.Is(err, unix.EBUSY):
			err = g.inUse(h, w, err)
		case errors.Is(err, unix.ENOSPC) && w.value == noCPUSet:
			// With processes in it it can't be emptied again (validate_change in kernel/cgroup/cpuset.c).
			var root string
			if root, err = h.read(h.mount + "/cpuset.cpus.effective"); err == nil {
				err = h.write(g.dir(h)+"/"+w.file, root)
			}
		}
		if err != nil {
			return denied(h, err)
		}
	}
	return nil
}

// writeSetting writes one. v1 refuses a quota that is tighter than one below it, and one that was just removed counts until
// the kernel has let go of it, some grace periods later (cpu_cgroup_css_released in kernel/sched/core.c).
func (g *Group) writeSetting(h *hierarchy, w setting) error {
	for wait := time.Millisecond; ; wait *= 2 {
		err := h.write(g.dir(h)+"/"+w.file, w.value)
		if w.file != cfsQuota || !errors.Is(err, unix.EINVAL) || wait > 128*time.Millisecond {
			return err
		}
		time.Sleep(wait)
	}
}

// adopt enters c as a child, which a group that holds processes or is closed can't have.
func (g *Group) adopt(c *Group) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed || g.tree.closed:
		return errClosed("new", c.rel)
	case g.held:
		return pathError("new", c.rel, unix.EBUSY)
	case g.children[c.name] != nil:
		return pathError("new", c.rel, unix.EEXIST)
	}
	g.children[c.name] = c
	return nil
}

func (g *Group) disown(c *Group) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.children[c.name] == c {
		delete(g.children, c.name)
	}
}

// Name is the path of the group in its tree, without the tree's: "box/run".
func (g *Group) Name() string { return g.rel[len(g.tree.root.rel):] }

// Controllers are those that g has: what Options.Controllers and the limits that it was made with need. What a group
// above has beyond them holds g's processes, too.
func (g *Group) Controllers() Controllers { return g.own }

// Limits returns what New, Leaf or the last Update gave.
func (g *Group) Limits() Limits {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.limits
}

func (g *Group) dir(h *hierarchy) string { return h.parent + "/" + g.rel }

func (g *Group) isMade(h *hierarchy) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.made&(1<<h.index) != 0
}

func (g *Group) setMade(h *hierarchy, on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.made &^= 1 << h.index
	if on {
		g.made |= 1 << h.index
	}
}

// in returns the hierarchy in which g has c and a directory.
func (g *Group) in(c Controllers) *hierarchy {
	if g.own&c == 0 {
		return nil
	}
	for _, h := range g.tree.m.hier {
		if h.ctl&c != 0 {
			return h
		}
	}
	return nil
}

// places are the directories that g has; those of the groups below for the top of the tree.
func (g *Group) places() []place {
	if g.parent == nil {
		var ps []place
		for _, c := range g.below() {
			ps = append(ps, c.places()...)
		}
		return ps
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	ps := make([]place, 0, bits.OnesCount32(g.made))
	for _, h := range g.tree.m.hier {
		if g.made&(1<<h.index) != 0 {
			ps = append(ps, place{g.dir(h), h})
		}
	}
	return ps
}

// shut closes g and what is below it to new groups and processes.
func (g *Group) shut() {
	g.mu.Lock()
	g.closed = true
	for w := range g.waiters {
		w.cancel(errClosed("wait", g.rel))
	}
	g.mu.Unlock()
	for _, c := range g.below() {
		c.shut()
	}
}

// dropFiles closes the descriptors that g and what is below it hold.
func (g *Group) dropFiles() {
	g.dropJoin()
	g.closeMeters()
	for _, c := range g.below() {
		c.dropFiles()
	}
}

// forget drops g from its parent; its directories are gone.
func (g *Group) forget() {
	g.mu.Lock()
	g.made = 0
	g.mu.Unlock()
	if g.parent != nil {
		g.parent.disown(g)
	}
}

// Kill ends every process in g and below it by SIGKILL, new ones included, and returns when none is left; frozen ones
// are thawed. It ends early with ctx. Limits are as before after it, and g can be used on. A process that sleeps in the
// kernel uninterruptibly, or on v1 is frozen by a group above or lives in a PID namespace that isn't below ours, can keep
// it waiting.
func (g *Group) Kill(ctx context.Context) error {
	g.meddle()
	return killer{ps: g.places()}.all(ctx)
}

// Remove waits until no process is left in g and below it, and removes them. It ends early with ctx, and g can't be
// used any more then either but for Kill and Remove. Of a group that is removed already it returns nil.
func (g *Group) Remove(ctx context.Context) error {
	g.meddle()
	g.shut()
	g.drain()
	g.dropFiles()
	if err := removeAll(ctx, g.places()); err != nil {
		return err
	}
	g.forget()
	return nil
}
