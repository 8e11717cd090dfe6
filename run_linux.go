package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/cgroup"
	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
	"github.com/seed-5a9fb6e0/sandbox/internal/world"
)

// A process is a command that was started, with what it holds.
type process struct {
	core   *core
	box    *box
	cmd    *Cmd
	sum    Limits // the sandbox's when it was started
	limits Limits // its own, merged with the defaults of those
	stdio  *stdio
	kept   atomic.Pointer[commandLog] // of Cmd.Log; nil: none, yet
	leaf   *cgroup.Group              // nil: none
	entry  *cgroup.Join               // how the child enters it
	before cgroup.Events              // of the sandbox's own cgroup, when the command started
	child  *world.Process
	calls  *listener // of Security.Notify; nil: none
	pid    int
	here   bool     // it was started by the goroutine that waits for it, on its thread
	beside *process // in whose namespaces it is (Process.Start); nil: in its own
	guests guests
	held   context.Context // ends when a command beside another one was killed, and nothing came of it
	letGo  context.CancelFunc
	began  time.Time

	kills struct {
		sync.Mutex
		reason Status // why it was killed first; Lost: it was not
		cause  error
		ended  bool // no signal may be sent any more
	}
	used      *cgroup.Usage // what it has used, if that is read already
	unstarted atomic.Bool   // its memory limit was too small for an exec: there is no child

	copying     context.Context // bounds the copying of the streams
	stopCopying context.CancelCauseFunc

	gone   chan struct{} // closed when the kernel has nothing left of it
	done   chan struct{} // closed when result and err are there
	result *Result
	err    error
}

// runners bounds how many Runs at a time keep a thread each, as every Run of
// os/exec's does: it saves them two wake-ups. The others share the spawning
// threads and wait in Go's poller.
var runners = make(chan struct{}, 16)

// run starts cmd for a caller who then supervises it.
func (c *core) run(ctx context.Context, cmd *Cmd) (*process, error) {
	if cmd != nil && cmd.idle {
		return c.launch(ctx, cmd, nil, false)
	}
	select {
	case runners <- struct{}{}:
	default:
		return c.launch(ctx, cmd, nil, false)
	}
	p, err := c.launch(ctx, cmd, nil, true)
	if err != nil || p.unstarted.Load() {
		<-runners
	}
	return p, err
}

// start runs cmd up to its exec, beside a process or, nil, in namespaces of its own.
func (c *core) start(ctx context.Context, cmd *Cmd, beside *process) (*process, error) {
	return c.launch(ctx, cmd, beside, false)
}

func (c *core) launch(ctx context.Context, cmd *Cmd, beside *process, here bool) (*process, error) {
	if cmd == nil {
		return nil, &FieldError{"Cmd", nil, "nil"}
	}
	sum := c.limits()
	if err := cmd.validateFor(&c.opts, sum, beside != nil); err != nil {
		return nil, errors.Join(c.opts.validateWith(sum), err)
	}
	p := &process{core: c, cmd: cmd, here: here, beside: beside.host(), sum: sum, gone: make(chan struct{}), done: make(chan struct{})}
	// Before anybody knows of it, who may kill it.
	p.copying, p.stopCopying = context.WithCancelCause(c.closing)
	if p.beside != nil {
		p.held, p.letGo = context.WithCancel(context.Background())
	}
	if err := c.enter(ctx, p); err != nil {
		p.stopCopying(nil)
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p.limits = cmd.Limits.merged(sum)
	if cmd.idle {
		p.limits = cmd.Limits
	}
	if wall := p.limits.Wall; wall > 0 {
		// A file lease in the sandbox can hold an exec up (fcntl(2), F_SETLEASE).
		t := time.AfterFunc(wall+startGrace, func() { cancel(errWallStart) })
		defer t.Stop()
	}
	defer context.AfterFunc(c.closing, func() { cancel(os.ErrClosed) })()
	if err := p.launch(ctx); err != nil {
		p.stopCopying(nil)
		p.leave()
		return nil, err
	}
	// The end of ctx may have killed what had just been executed.
	if cause := context.Cause(ctx); cause != nil {
		why := Canceled
		switch {
		case c.closing.Err() != nil:
			why = Killed
		case cause == errWallStart:
			why, cause = WallLimit, nil
		}
		_ = p.kill(why, cause)
	}
	return p, nil
}

// enter makes p known as one that is about to run in the box.
func (c *core) enter(ctx context.Context, p *process) error {
	for {
		b, err := c.open(ctx)
		if err != nil {
			return err
		}
		c.mu.Lock()
		closed, same := c.closed, c.box == b
		if !closed && same {
			p.box = b
			c.procs[p] = struct{}{}
		}
		c.mu.Unlock()
		switch {
		case closed:
			return os.ErrClosed
		case same:
			return nil
		} // else it was reset meanwhile
	}
}

func (p *process) leave() {
	p.leaveGroups()
	p.core.mu.Lock()
	delete(p.core.procs, p)
	p.core.mu.Unlock()
	close(p.gone)
}

// launch prepares everything that the command needs and executes it.
func (p *process) launch(ctx context.Context) (err error) {
	if p.cmd.idle {
		return p.launchIdle(ctx)
	}
	w := world.Command{Capabilities: p.box.caps, Filter: p.box.filter, Notify: p.box.notify.filter}
	if w.Rlimits, err = world.Rlimits(rlimits(p.limits)); err != nil {
		return err
	}
	if err := p.resolve(&w); err != nil {
		return err
	}
	err = p.join(ctx, &w)
	if err != nil && !p.starved(err) {
		return err
	}
	if p.entry != nil {
		defer p.entry.Close()
	}
	if err := p.required(); err != nil {
		return err
	}
	if err := p.openStdio(); err != nil {
		return err
	}
	w.Files, w.Terminal = p.stdio.files, p.cmd.terminal()
	if err = p.company(&w); err != nil {
		p.stdio.abandon()
		return err
	}
	var child *world.Process
	if !p.unstarted.Load() {
		child, err = p.startChild(ctx, w)
	}
	p.began = time.Now()
	if err != nil && !p.starved(err) {
		p.stdio.abandon()
		return err
	}
	var sent []int
	if child != nil {
		sent = p.takeTerminal(child.Sent)
	}
	p.stdio.started(p.flooded)
	p.runs(child)
	if child != nil && w.Notify != nil {
		p.calls = p.box.opts.Security.Notify.listen(sent[0], p.box.notify.names)
	}
	return nil
}

// openStdio makes the pipes and the log of the command.
func (p *process) openStdio() error {
	log, err := p.box.openLog(p.cmd.Log)
	if err != nil {
		return fmt.Errorf("Cmd.Log: %w", err)
	}
	if p.stdio, err = newStdio(p.cmd, p.limits.Output, log); err != nil {
		return err
	}
	if log != nil {
		p.kept.Store(log)
		runtime.AddCleanup(p, (*commandLog).remove, log)
	}
	return nil
}

func (p *process) log() *commandLog { return p.kept.Load() }

// launchIdle starts the PID 1 of a session.
func (p *process) launchIdle(ctx context.Context) error {
	init, err := p.box.store.initProgram()
	if err == nil {
		err = p.required()
	}
	if err != nil {
		return err
	}
	if err := p.openStdio(); err != nil {
		return err
	}
	child, err := p.box.world.StartIdle(ctx, init)
	if err != nil {
		p.stdio.abandon()
		return err
	}
	p.began = time.Now()
	p.stdio.started(p.flooded)
	p.runs(child)
	return nil
}

// company names the program that stands beside the command: its PID 1 or, where it is that itself, what kills it when the
// embedder has ended.
func (p *process) company(w *world.Command) (err error) {
	switch {
	case p.beside != nil:
	case p.cmd.Init:
		w.Init, err = p.box.store.initProgram()
	default:
		w.Guard, err = p.box.store.guardProgram()
	}
	return err
}

// required asks Security.Require.
func (p *process) required() error {
	require := p.box.opts.Security.Require
	if require == nil {
		return nil
	}
	if err := require(p.applied()); err != nil {
		return fmt.Errorf("Security.Require: %w", err)
	}
	return nil
}

func (p *process) startChild(ctx context.Context, w world.Command) (*world.Process, error) {
	if p.beside != nil {
		return p.startBeside(ctx, w)
	}
	if !p.here {
		return p.box.world.Start(ctx, w)
	}
	// The command dies with the thread that made it (PR_SET_PDEATHSIG).
	runtime.LockOSThread()
	child, err := p.box.world.StartHere(ctx, w)
	if err != nil {
		runtime.UnlockOSThread()
	}
	return child, err
}

// wait waits for the end of the command.
func (p *process) wait() (spawn.State, error) {
	switch {
	case p.child == nil:
		return spawn.State{}, nil
	case p.beside != nil:
		return p.waitBeside()
	case !p.here:
		return p.child.Wait(context.Background())
	}
	state, err := p.child.WaitHere()
	runtime.UnlockOSThread()
	<-runners
	return state, err
}

// alone says of a command that has ended that it made no other process, if that is known: nothing needs to be waited for
// then but the command.
func (p *process) alone() bool {
	if p.leaf == nil || !p.guests.none() {
		return false
	}
	used, err := p.leaf.Usage()
	if err != nil || !used.PIDsPeak.Measured || used.PIDsPeak.Value != 1 {
		return false
	}
	p.used = &used
	return true
}

// runs notes the child, and kills it if that was asked for meanwhile.
func (p *process) runs(child *world.Process) {
	if child == nil {
		return // starved
	}
	p.kills.Lock()
	defer p.kills.Unlock()
	p.child, p.pid = child, child.PID
	child.Alone = p.alone
	if p.kills.reason != Lost {
		_ = child.Kill() // os.ErrProcessDone: it has ended
	}
}

// isStarted says whether there is a child, and all that its Process needs.
func (p *process) isStarted() bool {
	p.kills.Lock()
	defer p.kills.Unlock()
	return p.child != nil
}

// starved says whether the memory limit left no room for an exec, or for the
// command's cgroup. The kernel then says ENOMEM, E2BIG or ENFILE, or kills the child,
// according to where it ran out.
func (p *process) starved(err error) bool {
	if p.limits.Memory == 0 && p.sum.Memory == 0 {
		return false
	}
	var e *spawn.Error
	killed := errors.As(err, &e) && e.Killed
	if !killed && !errors.Is(err, unix.ENOMEM) && !errors.Is(err, unix.E2BIG) && !errors.Is(err, unix.ENFILE) && !errors.Is(err, unix.ENOSPC) {
		return false
	}
	starved := p.sandboxHits().memory > 0 || p.ownMemoryHits() > 0
	p.unstarted.Store(starved)
	return starved
}

// resolve works out what the command is, from the image, Options and Cmd.
func (p *process) resolve(w *world.Command) error {
	c, o := p.cmd, p.box.opts
	conf := p.box.config()
	a, err := p.box.account(whose(c.User, o.User, conf.User))
	if err != nil {
		return err
	}
	w.IDs = a.IDs
	for _, f := range c.Files {
		mode := f.Mode
		if mode == 0 {
			mode = 0o644
		}
		w.Written = append(w.Written, world.WrittenFile{Name: f.Name, Data: f.Data, Mode: int(mode)})
	}
	if w.Args, err = argv(c, conf.Entrypoint, conf.Cmd); err != nil {
		return err
	}
	base := []string{"PATH=" + defaultPath, "HOME=" + a.home, "USER=" + a.name}
	if c.TTY != nil {
		base = append(base, "TERM=xterm")
	}
	w.Env = mergeEnv(base, conf.Env, o.Env, c.Env)
	w.Paths = world.LookPath(w.Args[0], lookEnv(w.Env, "PATH"))
	if len(w.Paths) == 0 {
		return &FieldError{"Cmd.Env", nil, "PATH has no absolute directory to look for the command in"}
	}
	w.Dir = first(c.Dir, o.Dir, conf.WorkingDir, "/")
	w.MakeDir = c.Dir == "" && o.Dir == ""
	if !path.IsAbs(w.Dir) {
		w.Dir = path.Join("/", w.Dir)
	}
	if k := o.Clock; k != nil {
		w.Clock = &world.Clock{Monotonic: int64(k.Monotonic / time.Second), Boottime: int64(k.Boottime / time.Second)}
	}
	return nil
}

// whose returns the user that counts and where it was named.
func whose(cmd, options, image string) (field, user string) {
	switch {
	case cmd != "":
		return "Cmd.User", cmd
	case options != "":
		return "Options.User", options
	case image != "":
		return "Options.Image (its config's User)", image
	}
	return "Options.User", ""
}

// join takes a cgroup for the command, if it or its sandbox has a limit that
// needs one: to make, join, read and remove one takes a third of what the rest
// of a Run does. Beside another command it has one if it can, for its tree to be killed by.
func (p *process) join(ctx context.Context, w *world.Command) (err error) {
	l := p.cmd.Limits.cgroup()
	needed := !l.IsZero() || p.limits.CPUTime > 0
	switch {
	case p.box.group != nil:
		p.before, _ = p.box.group.Events() // unknown is 0
		p.leaf, err = p.box.group.Leaf(ctx, l)
	case needed || p.beside != nil:
		if err = p.box.useGroups(); err == nil {
			p.leaf, err = p.box.store.tree().Leaf(ctx, l)
		}
	default:
		return nil
	}
	if err != nil {
		if !needed && p.box.group == nil && errors.Is(err, errors.ErrUnsupported) {
			err = nil
		}
		return err
	}
	if p.entry, err = p.leaf.Join(); err != nil {
		return err
	}
	w.Join, w.Cgroup = p.entry.Tasks, p.entry.Dir
	return nil
}

func rlimits(l Limits) (set []world.Rlimit) {
	add := func(resource int, n int64) {
		switch {
		case n == Unlimited:
			set = append(set, world.Rlimit{Resource: resource, Soft: unix.RLIM_INFINITY, Hard: unix.RLIM_INFINITY})
		case n > 0:
			set = append(set, world.Rlimit{Resource: resource, Soft: uint64(n), Hard: uint64(n)})
		}
	}
	add(unix.RLIMIT_FSIZE, l.FileSize)
	add(unix.RLIMIT_STACK, l.Stack)
	add(unix.RLIMIT_NOFILE, l.OpenFiles)
	return set
}

// kill kills the command with all its descendants, which end with their PID 1.
// The first reason counts.
func (p *process) kill(why Status, cause error) error {
	if why == Canceled {
		p.stopCopying(cause)
	}
	k := &p.kills
	k.Lock()
	defer k.Unlock()
	if k.ended {
		return os.ErrProcessDone
	}
	if k.reason == Lost {
		k.reason, k.cause = why, cause
	}
	if p.beside != nil {
		time.AfterFunc(heldGrace, p.letGo) // nothing but a timer of a second
	}
	if p.child == nil {
		return nil // it is being started: runs kills it
	}
	return p.child.Kill()
}

func (p *process) signal(sig syscall.Signal) error {
	p.kills.Lock()
	defer p.kills.Unlock()
	if p.kills.ended || p.child == nil {
		return os.ErrProcessDone
	}
	return p.child.Signal(sig)
}

// supervise waits for the end of the command and settles the result.
func (p *process) supervise() {
	defer close(p.done)
	guard := p.guard()
	state, err := p.wait()
	wall := time.Since(p.began)
	guard.stop()
	if p.calls != nil {
		p.calls.close()
	}
	p.kills.Lock()
	p.kills.ended = true
	reason, cause := p.kills.reason, p.kills.cause
	p.kills.Unlock()

	p.endGroup(reason)
	p.result = &Result{Applied: p.applied()}
	p.result.Usage = p.usage(state, wall)
	p.judge(state, reason)
	if s := p.result.Status; s == reason && (s == Canceled || s == Killed) {
		err = errors.Join(err, cause)
	}
	if p.result.Status == Lost && err == nil {
		err = errLost
	}
	err = errors.Join(err, p.closeChild())
	p.leave()
	p.err = errors.Join(err, p.stdio.finish(p.copying, p.cmd.WaitDelay), p.stdio.log.end())
	p.stopCopying(nil)
	if p.stdio.cutOff() {
		p.hit(OutputLimit, p.cmd.Limits.Output > 0)
	}
	if p.limits.Output > 0 {
		p.result.Usage.Output, p.result.Usage.OutputSource = p.stdio.wrote.Load(), FromPipe
	}
}

// startGrace is what a start on a busy machine may take beyond Limits.Wall,
// which counts from the exec.
const startGrace = time.Second

var errWallStart = errors.New("the start took longer than Limits.Wall")

var errLost = errors.New("another wait of this program took the command's exit status")

// flooded is called when there is more output than the limit.
func (p *process) flooded() {
	if !p.cmd.DropOutput {
		_ = p.kill(OutputLimit, nil) // os.ErrProcessDone: it has ended
	}
}
