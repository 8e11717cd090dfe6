package sandbox

import (
	"context"
	"errors"
	"os"
	"sync"
)

// A Pool has sandboxes of the same Options ready, which nobody has used: to get one takes no longer than to start a
// command in it. One that was used and closed is not given again: nothing of what ran in it is in another one. All methods
// may be called concurrently.
type Pool struct {
	opts Options
	size int

	making context.Context // ends with Close
	cancel context.CancelFunc

	closing sync.Mutex // held by Close

	mu     sync.Mutex
	ready  []*Sandbox
	busy   bool // somebody makes some
	closed bool
	work   sync.WaitGroup
}

// maxPool is how many sandboxes a Pool can have ready.
const maxPool = 1024

// NewPool returns a Pool of these Options, which it copies, with size sandboxes ready, 1 to 1,024. It does no work: the first
// Get checks the Options, and builds what it gives itself; the others are built in the background, one after the other. A
// sandbox that is ready has its namespaces and mounts, but no process. Options.Name must be empty, for each has a name of its own.
func NewPool(o Options, size int) *Pool {
	p := &Pool{opts: o.clone(), size: size}
	p.making, p.cancel = context.WithCancel(context.Background())
	return p
}

// Get returns a sandbox that nobody has used. It is the caller's to close; the Pool makes another one in its place at once. Where none is ready it is built now, and the error is Prepare's. After Close it is os.ErrClosed.
func (p *Pool) Get(ctx context.Context) (*Sandbox, error) {
	if err := p.validate(); err != nil {
		return nil, describe("get", "", err)
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, describe("get", "", os.ErrClosed)
	}
	var sb *Sandbox
	if last := len(p.ready) - 1; last >= 0 {
		sb, p.ready = p.ready[last], p.ready[:last]
		p.fill()
	}
	p.mu.Unlock()
	if sb != nil {
		return sb, nil
	}
	sb = New(p.opts)
	if err := sb.Prepare(ctx); err != nil {
		return nil, errors.Join(err, sb.Close())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fill() // now that it is known that they can be built
	return sb, nil
}

func (p *Pool) validate() error {
	f := &faults{}
	f.check(p.size < 1 || p.size > maxPool, "size", p.size, "a Pool has 1 to 1,024 sandboxes ready")
	f.check(p.opts.Name != "", "Options.Name", p.opts.Name, "set, but each of a Pool's sandboxes has a name of its own")
	return errors.Join(f.errs...)
}

// fill has what is missing be made. p.mu is held.
func (p *Pool) fill() {
	if !p.busy && !p.closed && len(p.ready) < p.size {
		p.busy = true
		p.work.Go(p.make) // ends when none is missing; Close waits for it
	}
}

// make makes sandboxes until there are enough, or one can't be built: the next Get meets the error.
func (p *Pool) make() {
	for more := true; more; {
		sb := New(p.opts)
		err := sb.Prepare(p.making)
		p.mu.Lock()
		keep := err == nil && !p.closed
		if keep {
			p.ready = append(p.ready, sb)
		}
		more = keep && len(p.ready) < p.size
		p.busy = more
		p.mu.Unlock()
		if !keep {
			p.discard(sb)
		}
	}
}

// Close closes those that are ready. Those that were given by Get stay their callers'. Later calls return nil.
func (p *Pool) Close() error {
	p.closing.Lock()
	defer p.closing.Unlock()
	p.mu.Lock()
	p.closed = true
	ready := p.ready
	p.ready = nil
	p.mu.Unlock()
	p.cancel()
	p.work.Wait()
	var errs []error
	for _, sb := range ready {
		errs = append(errs, sb.Close())
	}
	return errors.Join(errs...)
}

func (p *Pool) discard(sb *Sandbox) {
	if err := sb.Close(); err != nil {
		p.opts.Logger.Error("close of a pool's sandbox", "sandbox", sb.Name(), "error", err)
	}
}
