package cgroup

import (
	"context"
	"sync"
	"time"
)

// lag is how long the background puts off what is not urgent, to do more of it in one wake-up.
const lag = 10 * time.Millisecond

// removals are a batch: so many groups to be removed are worth a wake-up of their own.
const removals = 8

// background fills pools, closes what children have joined by and removes what was released, in one goroutine of the
// Tree at a time. It ends by itself when there is nothing to do, and before Tree.Close returns.
//
// The kernel makes and removes cgroups, and moves tasks into them, under one lock (cgroup_mutex). So a batch that is
// due begins with a Join.Close, when the child is in; by the clock if none comes; at once if it must.
type background struct {
	ctx    context.Context // ends the wait for groups that don't get empty
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	due    bool // a batch is
	queue  []*Group
	files  []*Group // whose Join came back
	pools  []*pool
	done   chan struct{} // of the goroutine at work; nil: none is
	armed  bool
	timer  *time.Timer
}

func (b *background) init() { b.ctx, b.cancel = context.WithCancel(context.Background()) }

// want has p filled soon, at once if that is urgent; add says that it is not yet in the queue. It is false when the
// tree is closed.
func (b *background) want(p *pool, add, urgent bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	if add {
		b.pools = append(b.pools, p)
	}
	b.due = true
	b.start(urgent)
	return true
}

// later closes what g keeps for the next command, unless that has it by then.
func (b *background) later(g *Group) {
	b.mu.Lock()
	closed := b.closed
	if !closed {
		b.files = append(b.files, g)
		b.start(b.due)
	}
	b.mu.Unlock()
	if closed {
		g.dropJoin()
	}
}

// start begins now, or sees to it that it will be soon. b.mu is held.
func (b *background) start(now bool) {
	switch {
	case b.done != nil:
	case now:
		b.done = make(chan struct{})
		b.wg.Go(func() { _ = b.work(b.ctx) })
	case b.armed:
	case b.timer == nil:
		b.armed, b.timer = true, time.AfterFunc(lag, b.ring)
	default:
		b.armed = true
		b.timer.Reset(lag)
	}
}

// ring is the timer's.
func (b *background) ring() {
	b.mu.Lock()
	b.armed = false
	if b.closed || b.done != nil {
		b.mu.Unlock()
		return
	}
	b.done = make(chan struct{})
	b.wg.Add(1)
	defer b.wg.Done()
	b.mu.Unlock()
	_ = b.work(b.ctx)
}

// work does what there is until nothing is left, or ctx ends the wait for groups that don't get empty. A group in
// which somebody is slow to die doesn't keep the others waiting.
func (b *background) work(ctx context.Context) error {
	var busy []*Group
	var pause backoff
	for {
		b.mu.Lock()
		todo, files, pools := append(busy, b.queue...), b.files, b.pools
		b.queue, b.files, b.pools, b.due = nil, nil, nil, false
		if len(todo)+len(files)+len(pools) == 0 {
			b.rest()
			b.mu.Unlock()
			return nil
		}
		b.mu.Unlock()
		for _, p := range pools {
			p.fill()
		}
		for _, g := range files {
			g.dropJoin()
		}
		busy = nil
		for _, g := range todo {
			if !g.tryRemove() {
				busy = append(busy, g)
			}
		}
		if len(busy) == 0 {
			pause = backoff{}
			continue
		}
		if err := pause.wait(ctx); err != nil {
			b.mu.Lock()
			b.queue = append(busy, b.queue...)
			b.rest()
			if !b.closed {
				b.start(false)
			}
			b.mu.Unlock()
			return err
		}
	}
}

// rest notes the end of the work. b.mu is held.
func (b *background) rest() {
	close(b.done)
	b.done = nil
}

// flush returns when there is nothing to do.
func (b *background) flush(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(b.ctx, func() { cancel(context.Cause(b.ctx)) })()
	for {
		b.mu.Lock()
		done := b.done
		switch {
		case done != nil:
			b.mu.Unlock()
			select {
			case <-done:
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		case b.closed || len(b.queue)+len(b.files)+len(b.pools) == 0:
			b.mu.Unlock()
			return nil
		}
		b.done = make(chan struct{})
		b.wg.Add(1)
		b.mu.Unlock()
		err := b.work(ctx)
		b.wg.Done()
		return err
	}
}

// wait lets the goroutine finish and no new one start. With the end of ctx it gives up.
func (b *background) wait(ctx context.Context) error {
	b.mu.Lock()
	b.closed = true
	if b.timer != nil {
		b.timer.Stop()
	}
	files := b.files
	b.files = nil
	b.mu.Unlock()
	for _, g := range files {
		g.dropJoin()
	}
	done := make(chan struct{})
	go func() { // ends with the goroutines that it waits for
		b.wg.Wait()
		close(done)
	}()
	defer b.cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		b.cancel()
		<-done
		return context.Cause(ctx)
	}
}

// Release removes g in the background, with all below it; processes that are left in it are killed. It returns at
// once; Tree.Flush and Tree.Close wait for the end of it. The name is free only then. What g has used is to be read
// before.
func (g *Group) Release() {
	g.shut()
	if !g.reuse() {
		g.retire()
	}
}

// discard is Release for what nobody can use again.
func (g *Group) discard() {
	g.meddle()
	g.shut()
	g.retire()
}

// retire leaves g, which is shut, to the background.
func (g *Group) retire() {
	g.drain()
	if !g.tree.bg.remove(g) {
		g.dropFiles() // Tree.Close removes it.
	}
}

// remove has g removed; it is false when the tree is closed.
func (b *background) remove(g *Group) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.queue = append(b.queue, g)
	b.due = b.due || len(b.queue) >= removals
	b.start(len(b.queue) >= 2*removals)
	return true
}

// tryRemove says whether g is gone; if not, those who are in it have been sent a kill. The kernel lets go of the memory
// of the dead a little later (RCU): a leaf that was unclean for that alone serves on after all.
func (g *Group) tryRemove() bool {
	if g.reuse() {
		return true
	}
	if g.leaf {
		g.parent.pool.noteReturn(false)
	}
	g.meddle()
	g.dropFiles()
	ps := g.places()
	if removeOnce(ps) == nil {
		g.forget()
		return true
	}
	k := killer{ps, true}
	if _, err := k.count(); err == nil {
		_, _ = k.noForks()
		_, _ = k.once()
	}
	return false
}
