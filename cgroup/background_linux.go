package cgroup

import (
	"context"
	"sync"
)

// background is the goroutines of a Tree: those that fill pools and the one that removes what was released. Each ends
// by itself when there is nothing to do, and all before Tree.Close returns.
type background struct {
	ctx    context.Context // ends the wait for groups that don't get empty
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	queue    []*Group
	removing bool
}

func (b *background) init() { b.ctx, b.cancel = context.WithCancel(context.Background()) }

// start runs f in a goroutine, unless the tree is closed.
func (b *background) start(f func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.wg.Go(f)
	}
	return !b.closed
}

// wait lets the goroutines finish and no new one start. With the end of ctx they give up.
func (b *background) wait(ctx context.Context) error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
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
// once; Tree.Close waits for the end of it. The name is free only then. What g has used is to be read before.
func (g *Group) Release() {
	g.shut()
	g.drain()
	b := &g.tree.bg
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		g.dropFiles()
		return // Tree.Close removes it.
	}
	b.queue = append(b.queue, g)
	if !b.removing {
		b.removing = true
		b.wg.Go(b.remove)
	}
}

// remove empties the queue. A group in which somebody is slow to die doesn't keep the others waiting.
func (b *background) remove() {
	var busy []*Group
	var pause backoff
	for {
		b.mu.Lock()
		todo := append(busy, b.queue...)
		b.queue = nil
		b.removing = len(todo) > 0
		b.mu.Unlock()
		if len(todo) == 0 {
			return
		}
		busy = nil
		for _, g := range todo {
			if !g.tryRemove() {
				busy = append(busy, g)
			}
		}
		if len(busy) == 0 {
			pause = backoff{}
		} else if pause.wait(b.ctx) != nil {
			return
		}
	}
}

// tryRemove says whether g is gone; if not, those who are in it have been sent a kill.
func (g *Group) tryRemove() bool {
	g.dropFiles()
	ps := g.places()
	if removeOnce(ps) == nil {
		g.forget()
		return true
	}
	_, _ = noForks(ps)
	_, _ = killOnce(ps)
	return false
}
