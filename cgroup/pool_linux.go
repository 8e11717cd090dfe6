package cgroup

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"sync"
	"time"
)

// poolIdle is how long prepared leaves wait for the next Leaf: an idle group shall cost no descriptor.
const poolIdle = 2 * time.Second

// poolBusy is how soon after the last a pool has to be filled again for it to grow: the larger, the fewer wake-ups.
const poolBusy = 100 * time.Millisecond

// leastLeaves is how many leaves a pool begins with.
const leastLeaves = 4

// pool keeps leaves of one group prepared: directories made, limits written, descriptors for Join open. What is taken
// is ordered anew, of the same kind, and made in the background several at a time; as long as leaves come back clean
// (reuse_linux.go), only when none is left. One use makes no pool: a group with a single run would pay for leaves that
// nobody wants.
type pool struct {
	parent *Group

	mu     sync.Mutex
	ready  []*Group // the oldest first
	orders []Limits // of leaves to be made
	reads  []meter  // what was read of leaves
	target int      // ready and ordered ones
	uses   int      // since the pool was empty and idle
	seq    uint64
	busy   bool // the background fills it, or will
	reuses bool // the last leaf that was released came back
	closed bool
	used   time.Time
	filled time.Time
	idle   *time.Timer
}

// Leaf takes a fresh group below g for one command, prepared in advance if g was used lately: with the limits of a
// recent call at no cost, with others for that of writing them. Give it back by Release. On v1 its directories may have
// served a command before that left them empty, and nothing charged to them but what the kernel charges ahead: every
// figure begins anew. Errors as those of New, and the cause of ctx's end.
func (g *Group) Leaf(ctx context.Context, l Limits) (*Group, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	l = l.clone()
	c, err := g.pool.take(l)
	if c != nil && !c.settled() {
		c.discard()
		c = nil
	}
	if c == nil && err == nil {
		return g.pool.make(l)
	}
	if err == nil && !c.Limits().equal(l) {
		if err = c.Update(l); err != nil {
			c.Release()
		}
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// take returns a prepared leaf that can have l, or nil.
func (p *pool) take(l Limits) (*Group, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed("leaf", p.parent.rel)
	}
	i := p.find(l)
	if i < 0 || !p.ready[i].Limits().equal(l) {
		if err := p.parent.tree.valid(l); err != nil {
			return nil, err
		}
	}
	if p.most() <= 0 {
		return nil, nil
	}
	p.uses++
	p.touch()
	if p.uses == 1 {
		return nil, nil
	}
	var c *Group
	if i >= 0 {
		c = p.ready[i]
		p.ready = slices.Delete(p.ready, i, i+1)
	}
	if !p.reuses || len(p.ready) == 0 {
		p.order(l, c == nil)
	}
	return c, nil
}

// find returns the oldest leaf with these limits, the one that was left the longest ago (settled), or else the oldest that
// can have them; -1 if there is none.
func (p *pool) find(l Limits) int {
	for i, c := range p.ready {
		if c.Limits().equal(l) {
			return i
		}
	}
	own, err := p.parent.controllers(l)
	if err != nil {
		return -1
	}
	return slices.IndexFunc(p.ready, func(c *Group) bool { return c.own == own })
}

func (p *pool) most() int {
	if n := p.parent.tree.opts.Leaves; n != 0 {
		return n
	}
	return defaultLeaves
}

// order asks for another leaf with l and, when a batch is due, the background to make them: while the next child runs
// or, when few are left, at once.
func (p *pool) order(l Limits, missed bool) {
	p.orders = append(p.orders, l)
	if missed {
		p.grow(l)
	}
	urgent := missed || len(p.ready) <= p.target/4
	if !urgent && len(p.orders) < (p.target+1)/2 {
		return
	}
	if !p.busy && p.used.Sub(p.filled) < poolBusy {
		p.grow(l)
	}
	if p.parent.tree.bg.want(p, !p.busy, urgent) {
		p.busy = true
	}
}

func (p *pool) grow(l Limits) {
	p.target = min(max(leastLeaves, 2*p.target), p.most())
	for len(p.ready)+len(p.orders) < p.target {
		p.orders = append(p.orders, l)
	}
}

// touch puts off the end of the pool.
func (p *pool) touch() {
	p.used = time.Now()
	if p.idle == nil {
		p.idle = time.AfterFunc(poolIdle, p.expire)
	} else if p.uses == 1 {
		p.idle.Reset(poolIdle)
	}
}

// expire ends an idle pool.
func (p *pool) expire() {
	p.mu.Lock()
	left := poolIdle - time.Since(p.used)
	if left > 0 && !p.closed {
		p.idle.Reset(left)
		p.mu.Unlock()
		return
	}
	p.empty()
	p.mu.Unlock()
	p.parent.closeMeters()
}

// empty gives up what is prepared; p.mu is held.
func (p *pool) empty() {
	for _, c := range p.ready {
		c.discard()
	}
	p.ready, p.orders, p.uses, p.target = nil, nil, 0, 0
}

// fill makes what is ordered. A fault ends it: the next Leaf meets and reports it.
func (p *pool) fill() {
	for {
		l, more := p.next()
		if !more {
			return
		}
		c, err := p.make(l)
		if err == nil {
			err = c.prepare()
		}
		p.put(c, err)
	}
}

// next is the next order; without one filling is over.
func (p *pool) next() (l Limits, more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = p.busy && !p.closed && len(p.orders) > 0
	if p.busy {
		l = p.orders[0]
		p.orders = slices.Delete(p.orders, 0, 1)
		p.filled = time.Now()
	}
	return l, p.busy
}

// put takes c in, for the oldest if there are too many: kinds that nobody asks for any more end so.
func (p *pool) put(c *Group, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.orders = nil
	}
	if c != nil && (err != nil || p.closed || p.target == 0) {
		c.discard()
	} else if c != nil {
		p.ready = append(p.ready, c)
	}
	for len(p.ready) > p.target {
		p.ready[0].discard()
		p.ready = slices.Delete(p.ready, 0, 1)
	}
}

// noteReturn notes whether a released leaf came back. One that did fills an order.
func (p *pool) noteReturn(came bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reuses = came
	if n := len(p.orders); came && n > 0 {
		p.orders = p.orders[:n-1]
	}
}

// active says whether more leaves are likely to be taken.
func (p *pool) active() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.uses > 1 && !p.closed
}

// make makes a leaf now.
func (p *pool) make(l Limits) (*Group, error) {
	for {
		p.mu.Lock()
		p.seq++
		name := "leaf-" + strconv.FormatUint(p.seq, 36)
		p.mu.Unlock()
		c, err := p.parent.make(name, l, true)
		if !errors.Is(err, fs.ErrExist) {
			return c, err
		}
	}
}

// drain ends the pools of g and of the groups below it.
func (g *Group) drain() {
	p := &g.pool
	p.mu.Lock()
	p.closed = true
	if p.idle != nil {
		p.idle.Stop()
	}
	p.empty()
	p.mu.Unlock()
	for _, c := range g.below() {
		c.drain()
	}
}

// rest empties the pools of g and of the groups below it.
func (g *Group) rest() {
	g.pool.mu.Lock()
	g.pool.empty()
	g.pool.mu.Unlock()
	g.closeMeters()
	for _, c := range g.below() {
		c.rest()
	}
}
