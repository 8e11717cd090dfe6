package cgroup

import (
	"context"
	"errors"
	"io/fs"
	"strconv"
	"sync"
	"time"
)

// poolIdle is how long prepared leaves wait for the next Leaf: an idle group shall cost no descriptor.
const poolIdle = 2 * time.Second

// pool keeps leaves of one group prepared: directories made, limits written, descriptors for Join open. It grows each
// time it is found empty, and is filled by a goroutine that ends when it is full. One use makes no pool: a group with
// a single run would pay for leaves that nobody wants.
type pool struct {
	parent *Group

	mu      sync.Mutex
	ready   []*Group
	want    Limits // of the last Leaf
	uses    int    // since the pool was empty and idle
	target  int
	seq     uint64
	filling bool
	closed  bool
	idle    *time.Timer
}

// Leaf takes a fresh group below g for one command, prepared in advance if g was used lately, most cheaply with the
// limits of the call before. Give it back by Release; none is used twice, for what one left in the page cache would
// be charged to the next. Errors as those of New, and the cause of ctx's end.
func (g *Group) Leaf(ctx context.Context, l Limits) (*Group, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	c, err := g.pool.take(l)
	if c == nil && err == nil {
		return g.pool.make(l)
	}
	if err == nil && c.Limits() != l {
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
	t := p.parent.tree
	switch {
	case p.closed:
		return nil, errClosed("leaf", p.parent.rel)
	case t.opts.Leaves < 0:
		return nil, t.valid(l)
	}
	if l != p.want {
		if err := t.valid(l); err != nil {
			return nil, err
		}
		p.drop(p.controllers(l))
		p.want = l
	}
	p.uses++
	p.touch()
	c := p.pop()
	if p.uses > 1 && !p.filling && len(p.ready) < (p.target+1)/2 {
		p.filling = t.bg.start(p.fill)
	}
	return c, nil
}

// drop gives up prepared leaves with other controllers than own.
func (p *pool) drop(own Controllers) {
	if len(p.ready) > 0 && p.ready[0].own != own {
		p.releaseAll()
	}
}

// pop takes a leaf; without one the target grows.
func (p *pool) pop() *Group {
	n := len(p.ready)
	if n == 0 {
		most := p.parent.tree.opts.Leaves
		if most == 0 {
			most = defaultLeaves
		}
		p.target = min(max(2, 2*p.target), most)
		return nil
	}
	c := p.ready[n-1]
	p.ready = p.ready[:n-1]
	return c
}

// touch puts off the end of the pool.
func (p *pool) touch() {
	if p.idle == nil {
		p.idle = time.AfterFunc(poolIdle, p.expire)
		return
	}
	p.idle.Reset(poolIdle)
}

func (p *pool) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.releaseAll()
	p.uses, p.target = 0, 0
}

func (p *pool) releaseAll() {
	for _, c := range p.ready {
		c.Release()
	}
	p.ready = nil
}

// fill runs in the background until the pool is full or closed. A fault ends it: the next Leaf meets and reports it.
func (p *pool) fill() {
	for {
		l, more := p.lacks()
		if !more {
			return
		}
		c, err := p.make(l)
		if err == nil {
			err = c.prepare()
		}
		if !p.put(c, err) && c != nil {
			c.Release()
		}
	}
}

// lacks says whether a leaf is wanted, and with which limits; if not, filling is over.
func (p *pool) lacks() (Limits, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.filling = p.filling && !p.closed && len(p.ready) < p.target
	return p.want, p.filling
}

// put takes c in, unless it failed or a Leaf has meanwhile asked for limits that need other controllers.
func (p *pool) put(c *Group, err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil || p.closed {
		p.filling = false
		return false
	}
	if c.own != p.controllers(p.want) {
		return false
	}
	p.ready = append(p.ready, c)
	return true
}

// controllers are those of a leaf with l.
func (p *pool) controllers(l Limits) Controllers {
	t := p.parent.tree
	return t.m.needs(t.opts.Controllers | l.needs())
}

// make makes a leaf now.
func (p *pool) make(l Limits) (*Group, error) {
	for {
		p.mu.Lock()
		p.seq++
		name := "leaf-" + strconv.FormatUint(p.seq, 36)
		p.mu.Unlock()
		c, err := p.parent.make(name, l)
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
	p.releaseAll()
	p.mu.Unlock()
	for _, c := range g.below() {
		c.drain()
	}
}
