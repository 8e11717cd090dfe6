package sandbox

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"

	"github.com/seed-5a9fb6e0/sandbox/rootfs"
)

// A Sandbox is a set of namespaces, mounts and limits that commands run in. It
// is made by the first use and lives until Close. All methods may be called
// concurrently; a Sandbox must not be copied.
type Sandbox struct {
	core *core
}

// core is all of a Sandbox but the handle, so that a handle that is dropped
// without Close can be noticed.
type core struct {
	opts Options

	closing context.Context // ends with Close
	close   context.CancelCauseFunc
	down    chan struct{} // closed when everything is taken down

	changing chan struct{} // held by Update and Reset

	mu       sync.Mutex // guards opts.Limits and opts.Name, too
	closed   bool
	resets   chan struct{} // closed when a Reset has taken the box down; nil: none is about to
	building *building
	box      *box
	procs    map[*process]struct{}
}

// building is one attempt to make the box, shared by all who wait for it.
type building struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiters int
	box     *box
	err     error
}

// New returns a Sandbox of the given Options, which it copies. It does no work:
// Prepare or the first Run checks the Options and builds the sandbox.
func New(o Options) *Sandbox {
	c := &core{opts: o.clone(), procs: map[*process]struct{}{}, down: make(chan struct{}), changing: make(chan struct{}, 1)}
	c.closing, c.close = context.WithCancelCause(context.Background())
	s := &Sandbox{core: c}
	runtime.AddCleanup(s, (*core).dropped, c)
	return s
}

// dropped is called when nobody has the Sandbox any more.
func (c *core) dropped() {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return
	}
	c.opts.Logger.Warn("sandbox was dropped without Close", "sandbox", c.name())
	go func() { // ends with the sandbox
		if err := c.shutdown(); err != nil {
			c.opts.Logger.Error("close of a dropped sandbox", "sandbox", c.name(), "error", err)
		}
	}()
}

// Run runs a command in a sandbox of its own: New, Run and Close.
func Run(ctx context.Context, o Options, c *Cmd) (*Result, error) {
	s := New(o)
	res, err := s.Run(ctx, c)
	return res, errors.Join(err, s.Close())
}

// Prepare checks the Options, pulls the image where there is one, and builds
// the namespaces and mounts. It does nothing where that is done. Callers at
// the same time share the work; the end of one's context doesn't disturb the
// others, and after an error the next caller tries again.
func (s *Sandbox) Prepare(ctx context.Context) error {
	_, err := s.core.open(ctx)
	runtime.KeepAlive(s)
	return s.wrap("prepare", err)
}

// Run starts c, waits for its end and returns how it ended. The Result is not
// nil exactly when the program was executed. The error is not nil when the
// sandbox, a Reader or Writer of c, WaitDelay or ctx failed; it is nil for a
// program that ran and failed: see Result.Err. When ctx ends first, the command
// and all its descendants are killed, and the error wraps context.Cause.
func (s *Sandbox) Run(ctx context.Context, c *Cmd) (*Result, error) {
	if err := c.unpiped(); err != nil {
		return nil, s.wrap("run", err)
	}
	p, err := s.core.run(ctx, c)
	if err != nil {
		return nil, s.wrap("run", err)
	}
	defer runtime.KeepAlive(s)
	stop := context.AfterFunc(ctx, func() { p.kill(Canceled, context.Cause(ctx)) })
	defer stop()
	p.supervise()
	return p.result, s.wrap("run", p.err)
}

// unpiped refuses Pipes, and then says what else is wrong.
func (c *Cmd) unpiped() error {
	if c == nil || c.Pipes == 0 {
		return nil
	}
	return errors.Join(&FieldError{"Cmd.Pipes", c.Pipes, "set, but nobody would have the ends: use Start"}, c.validate())
}

// Output runs c and returns what it wrote to standard output. The error is
// also not nil for a command that did not exit with 0: an *ExitError, with the
// end of what it wrote to standard error unless c.Stderr or c.TTY is set.
func (s *Sandbox) Output(ctx context.Context, c *Cmd) ([]byte, error) {
	if c == nil {
		return nil, s.wrap("output", &FieldError{"Cmd", nil, "nil"})
	}
	if c.Stdout != nil {
		return nil, s.wrap("output", &FieldError{"Cmd.Stdout", nil, "set, but Output collects it"})
	}
	var out bytes.Buffer
	var last tail
	cmd := *c
	cmd.Stdout = &out
	if c.Stderr == nil && c.Pipes&PipeStderr == 0 && c.TTY == nil {
		cmd.Stderr = &last
	}
	res, err := s.Run(ctx, &cmd)
	if err == nil && res.Err() != nil {
		err = &ExitError{Result: res, Stderr: last.b}
	}
	return out.Bytes(), err
}

// tail keeps the last bytes written to it.
type tail struct{ b []byte }

const tailSize = 16 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.b = append(t.b, b...)
	if over := len(t.b) - tailSize; over > 0 {
		t.b = t.b[:copy(t.b, t.b[over:])]
	}
	return len(b), nil
}

// Start starts c and returns it as a Process. The context bounds the start
// alone, as net.Dialer's does. The Process lives in the sandbox: Close kills it.
func (s *Sandbox) Start(ctx context.Context, c *Cmd) (*Process, error) {
	p, err := s.core.start(ctx, c, nil)
	if err != nil {
		return nil, s.wrap("start", err)
	}
	go p.supervise() // ends with the process
	return newProcess(s, p), nil
}

// Processes returns the commands that run in the sandbox.
func (s *Sandbox) Processes(context.Context) ([]*Process, error) {
	s.core.mu.Lock()
	defer s.core.mu.Unlock()
	if s.core.closed {
		return nil, s.wrapLocked("processes", os.ErrClosed)
	}
	var all []*Process
	for p := range s.core.procs {
		if p.isStarted() {
			all = append(all, &Process{p: p, sandbox: s})
		}
	}
	return all, nil
}

// Dial connects to a server in the sandbox, without any network of the host's.
// network is "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6" or "unix". The host of
// an address is an IP address; empty and "localhost" are the sandbox's loopback.
// A unix address is a path that is resolved in the sandbox's root, or "@name".
// The Conn is the caller's to close.
func (s *Sandbox) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	b, err := s.core.open(ctx)
	if err != nil {
		return nil, s.wrap("dial", err)
	}
	conn, err := b.dial(ctx, network, addr)
	return conn, s.wrap("dial", err)
}

// Listen listens in the sandbox, for "tcp", "tcp4", "tcp6" and "unix", where
// its commands can connect. Addresses are as for Dial; the host "0.0.0.0" or "::"
// is every address of the sandbox, port 0 a free one. Close closes the Listener.
func (s *Sandbox) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	b, err := s.core.open(ctx)
	if err != nil {
		return nil, s.wrap("listen", err)
	}
	l, err := b.listen(ctx, network, addr)
	return l, s.wrap("listen", err)
}

// Root gives access to the files of the sandbox as its root user, whether commands run in it or not; rootfs.Root says how
// that is safe from them. It shows what all commands share: neither a Run's own mounts (rootfs.PerRun, Cmd.Files) nor
// processes in /proc. It is of use as long as the Sandbox is: after Close every method returns os.ErrClosed, and a file
// that was opened before can still be read.
func (s *Sandbox) Root(ctx context.Context) (*rootfs.Root, error) {
	b, err := s.core.open(ctx)
	if err != nil {
		return nil, s.wrap("root", err)
	}
	return b.files(), nil
}

// Name returns the sandbox's name, empty as long as one has still to be made up.
func (s *Sandbox) Name() string { return s.core.name() }

// Limits returns the limits of the sandbox as they are now.
func (s *Sandbox) Limits() Limits { return s.core.limits() }

// Update replaces Options.Limits, all of them. Those that bound all commands
// together hold for running ones at once, those that are defaults for commands that
// are started from now on. After an error the old ones hold. Memory below what is in
// use and can't be given back is an error (a *cgroup.InUseError); fewer PIDs than there
// are end nobody. A limit that needs a cgroup is errors.ErrUnsupported for a sandbox
// that was built without one: its Options named none.
func (s *Sandbox) Update(ctx context.Context, l Limits) error {
	return s.wrap("update", s.core.update(ctx, l))
}

// Reset makes the sandbox anew: it kills what runs in it, waits for its end, and takes down its namespaces and mounts, with all
// that was written and sent in it, and builds them again, as Prepare does. Volumes, Binds and the network of the host are
// not the sandbox's own and stay as they are. Its name and its Limits stay. Commands that were running are
// Killed, with ErrReset; calls at the same time use either the old or the new one, or fail with ErrReset or os.ErrClosed; what
// Root, Dial and Listen gave before is closed, and what commands have logged (Cmd.Log) is removed. ctx bounds the building: after
// an error there the next use builds it. After an error of the taking down what is left is removed by an Open of the store
// once this program has ended. One that was never built has nothing to be reset. Notify.Handle can't call it, nor Close: both
// wait for it.
func (s *Sandbox) Reset(ctx context.Context) error {
	err := s.core.reset(ctx)
	runtime.KeepAlive(s)
	return s.wrap("reset", err)
}

// Close kills what runs in the sandbox, waits for its end and takes the sandbox
// down. Calls in flight end with os.ErrClosed, and so does every later one but
// Close, which returns nil.
func (s *Sandbox) Close() error {
	err := s.core.shutdown()
	runtime.KeepAlive(s)
	return s.wrap("close", err)
}

func (s *Sandbox) wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return describe(op, s.core.name(), err)
}

func (s *Sandbox) wrapLocked(op string, err error) error {
	return describe(op, s.core.opts.Name, err)
}

func (c *core) name() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.box != nil {
		return c.box.name
	}
	return c.opts.Name
}

func (c *core) limits() Limits {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.opts.Limits
	l.IO = slices.Clone(l.IO)
	return l
}

func (c *core) update(ctx context.Context, l Limits) error {
	o := Options{Limits: l}
	if err := o.validate(); err != nil {
		return err
	}
	if l.Disk != c.limits().Disk {
		return &FieldError{"Limits.Disk", l.Disk, "it can't be changed: give the one that the sandbox has"}
	}
	l = o.clone().Limits
	box, done, err := c.change(ctx, func() { c.opts.Limits = l })
	if err != nil || box == nil {
		return err
	}
	defer done()
	err = box.update(l)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.opts.Limits = l
	case c.closed:
		err = os.ErrClosed
	}
	return err
}

// change returns the box; nil if there is none, and then unbuilt was called. Until done is called, which is not nil with a box, nobody
// else changes it.
func (c *core) change(ctx context.Context, unbuilt func()) (_ *box, done func(), err error) {
	select {
	case c.changing <- struct{}{}: // also when ctx has ended: there is nothing to wait for
	default:
		select {
		case c.changing <- struct{}{}:
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
	done = func() { <-c.changing }
	for {
		c.mu.Lock()
		b, box, closed := c.building, c.box, c.closed
		if !closed && b == nil && box == nil {
			unbuilt()
		}
		c.mu.Unlock()
		switch {
		case closed:
			err = os.ErrClosed
		case box != nil:
			return box, done, nil
		case b == nil:
		default:
			select {
			case <-b.done:
				continue
			case <-ctx.Done():
				err = context.Cause(ctx)
			}
		}
		done()
		return nil, nil, err
	}
}

func (c *core) reset(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx) // it could not be built again
	}
	box, done, err := c.change(ctx, func() {})
	if err != nil || box == nil {
		return err
	}
	err = c.takeDown(box)
	done()
	if err == nil {
		_, err = c.open(ctx)
	}
	return err
}

// takeDown ends all that runs in the box and closes it; those who would use it wait until then.
func (c *core) takeDown(box *box) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return os.ErrClosed // who closes it takes it down
	}
	c.box, c.resets = nil, make(chan struct{})
	procs := c.running()
	c.mu.Unlock()
	endAll(procs, ErrReset)
	err := box.close()
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.resets)
	c.resets = nil
	if err == nil {
		c.opts.Name = box.name // it keeps one that was made up
	}
	return err
}

// running are the commands that there are. c.mu is held.
func (c *core) running() (procs []*process) {
	for p := range c.procs {
		procs = append(procs, p)
	}
	return procs
}

// open returns the box, once somebody has built it.
func (c *core) open(ctx context.Context) (*box, error) {
	for {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return nil, os.ErrClosed
		}
		if c.box != nil {
			defer c.mu.Unlock()
			return c.box, nil
		}
		if resets := c.resets; resets != nil {
			c.mu.Unlock()
			select {
			case <-resets:
				continue
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		b := c.join(ctx)
		c.mu.Unlock()
		box, err, again := c.await(ctx, b)
		if !again {
			return box, err
		}
	}
}

// join returns the attempt in progress, a new one if there is none.
func (c *core) join(ctx context.Context) *building {
	if b := c.building; b != nil {
		b.waiters++
		return b
	}
	b := &building{done: make(chan struct{}), waiters: 1}
	// The values of the first caller's context, but not its end.
	buildCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(c.closing, cancel)
	b.cancel = cancel
	c.building = b
	go func() { // ends with the attempt, which honours its context
		box, err := newBox(buildCtx, &c.opts)
		stop()
		cancel()
		c.built(b, box, err)
	}()
	return b
}

func (c *core) built(b *building, box *box, err error) {
	c.mu.Lock()
	c.building = nil
	closed := c.closed
	if err == nil && !closed {
		c.box = box
	}
	c.mu.Unlock()
	b.box, b.err = box, err
	if closed {
		b.box, b.err = nil, os.ErrClosed
		if err == nil {
			b.err = errors.Join(os.ErrClosed, box.close())
		}
	}
	close(b.done)
}

// await waits for an attempt. The last caller to leave it cancels it; one who
// joined an attempt that was cancelled tries again.
func (c *core) await(ctx context.Context, b *building) (_ *box, err error, again bool) {
	select {
	case <-b.done:
		if errors.Is(b.err, context.Canceled) && ctx.Err() == nil && c.closing.Err() == nil {
			return nil, nil, true
		}
		return b.box, b.err, false
	case <-ctx.Done():
	}
	c.mu.Lock()
	b.waiters--
	last := b.waiters == 0
	c.mu.Unlock()
	if last {
		b.cancel()
		<-b.done // nothing of it is left behind
	}
	return nil, context.Cause(ctx), false
}

// endAll kills commands and waits until the kernel has nothing left of them. Those beside others come first: they would end with
// these, and not know why.
func endAll(procs []*process, cause error) {
	for _, beside := range []bool{true, false} {
		for _, p := range procs {
			if p.isBeside() == beside {
				_ = p.kill(Killed, cause) // os.ErrProcessDone: it has ended
			}
		}
	}
	for _, p := range procs {
		<-p.gone
	}
}

// shutdown takes everything down; only the first call does.
func (c *core) shutdown() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		<-c.down // whoever returns from Close may rely on it
		return nil
	}
	defer close(c.down)
	c.closed = true
	b, box, resets, procs := c.building, c.box, c.resets, c.running()
	c.mu.Unlock()

	c.close(os.ErrClosed)
	endAll(procs, os.ErrClosed)
	if b != nil {
		<-b.done
	}
	if resets != nil {
		<-resets
	}
	if box == nil {
		return nil
	}
	return box.close()
}
