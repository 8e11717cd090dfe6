package spawn

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Run builds a program and runs it to its end. It returns the descriptors that
// the program sent, which the caller owns, and the program, for its results.
// build may be called twice.
func Run(ctx context.Context, build func(*Program)) ([]int, *Program, error) {
	var r run
	err := r.do(ctx, 0, func(p *Program) { build(p); p.Exit() })
	if err != nil {
		closeAll(r.fds)
		return nil, r.p, err
	}
	return r.fds, r.p, nil
}

// Start builds a program that ends in Exec and runs it until the command is
// running. files is how many descriptors the command gets, numbered from 0:
// what the program itself works with stays above them.
// The caller must Wait for the Process and Close it.
func Start(ctx context.Context, files int, build func(*Program)) (*Process, error) {
	var r run
	if err := r.do(ctx, files, build); err != nil {
		closeAll(r.fds)
		return nil, err
	}
	return newProcess(r.pid, r.fds[0])
}

// run is one execution of a program.
type run struct {
	p   *Program
	pid int   // of the command
	fds []int // that came back
	err error
}

// copyTables remembers that ptrace rules keep children from fetching single
// descriptors of ours (Yama, an outer seccomp profile): they copy the table.
var copyTables atomic.Bool

func (r *run) do(ctx context.Context, base int, build func(*Program)) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	hung := onThread(ctx, func(t *thread) {
		r.err = r.once(ctx, t, base, build)
		var e *Error
		if errors.As(r.err, &e) && e.Op == fetchOp && !r.p.copied && (e.Errno == unix.EPERM || e.Errno == unix.ENOSYS) {
			copyTables.Store(true)
			r.err = r.once(ctx, t, base, build)
		}
	})
	if hung != nil {
		return hung
	}
	return r.err
}

func (r *run) once(ctx context.Context, t *thread, base int, build func(*Program)) error {
	p := &Program{base: base, copied: copyTables.Load(), header: &header{all: ^uint64(0), pidfd: -1}}
	*r = run{p: p}
	var restore func()
	p.dumpable, restore = saveDumpable()
	defer restore()
	p.entries = make([]entry, 0, 64)
	p.begin(t.self, t.sock[1])
	build(p)
	p.link()
	if h := hook.Load(); h != nil && h.Calls != nil {
		h.Calls(len(p.entries))
	}
	if p.err != nil {
		return p.err
	}
	h := p.header
	h.args.flags = unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PIDFD | unix.CLONE_CLEAR_SIGHAND
	if !p.copied {
		h.args.flags |= unix.CLONE_FILES
	}
	h.args.pidfd = uint64(uintptr(unsafe.Pointer(&h.pidfd)))

	var k killer
	defer k.watch(ctx, h)()
	pid := blockingClone(h)
	if int(pid) < 0 {
		return &Error{Op: "clone3", Errno: syscall.Errno(-pid)}
	}
	r.fds = t.receive()
	err := r.settle(int(pid))
	runtime.KeepAlive(p)
	if ctxErr := context.Cause(ctx); ctxErr != nil && err != nil && k.killed() {
		return ctxErr
	}
	return err
}

// settle accounts for every child of the program: it returns once each has
// ended or is the running command, for until then they use its memory.
func (r *run) settle(pid int) error {
	p := r.p
	simple := len(p.nested) == 0 && len(p.attempts) > 0
	p.collect()
	stopped := p.stopped()
	if simple && stopped == nil {
		// The first child is the command itself. Take its pidfd over.
		r.pid, r.fds = pid, []int{int(p.header.pidfd)}
		p.header.pidfd = -1
		return nil
	}
	if p.beforeReap != nil && stopped == nil {
		r.err = p.beforeReap(pid)
	}
	status := reap(pid)
	killed := status.Signaled()
	for i, child := range p.nested {
		n := int(atomic.LoadInt32(child))
		if n == 0 {
			continue
		}
		isCommand := p.afterExec != nil && i == len(p.nested)-1
		if isCommand && !killed && stopped == nil {
			r.pid = n
			continue
		}
		if killed {
			kill(n)
		}
		if reap(n).Signaled() {
			killed = true
		}
	}
	p.collect()
	switch {
	case p.stopped() != nil:
		return p.stopped()
	case killed:
		return &Error{Op: "child", Errno: unix.EINTR, Killed: true}
	}
	return r.err
}

// BeforeReap has f called with the pid of the first child after that has ended
// and before it has been waited for: its /proc/PID is still there.
func (p *Program) BeforeReap(f func(pid int) error) { p.beforeReap = f }

// collect copies the results out of the program.
func (p *Program) collect() {
	p.results = p.results[:0]
	for i := range p.entries {
		r := atomic.LoadUintptr(&p.entries[i].ret)
		if r == notRun {
			r = ^uintptr(unix.ECANCELED) + 1
		}
		p.results = append(p.results, int(r))
	}
}

// stopped returns the error of the call that stopped the program, if one did.
func (p *Program) stopped() error {
	at := atomic.LoadUintptr(&p.header.stop)
	if at == 0 {
		return nil
	}
	i := int(at-p.header.first) / int(entrySize)
	if p.steps[i].op == execOp {
		return p.execError()
	}
	e := &Error{Op: p.steps[i].op, Path: p.steps[i].path}
	if r := p.results[i]; r < 0 {
		e.Errno = syscall.Errno(-r)
	} else {
		e.Result = r
	}
	return e
}

// reap waits for a child whose end sends no signal (__WALL: wait(2)).
func reap(pid int) (status unix.WaitStatus) {
	for {
		_, err := unix.Wait4(pid, &status, unix.WALL, nil)
		if err != unix.EINTR {
			return status // ECHILD: somebody else's wait took it
		}
	}
}

// kill ends a nested child that was left alone in the program's memory. Its
// pid can't be another process's: it has not been waited for.
func kill(pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // ESRCH: it has ended
}

// killer ends a program's child when a context ends, wherever it is.
type killer struct {
	mu   sync.Mutex
	sent bool
	done bool
}

// watch must be stopped, by the function that it returns, after the child has
// ended; that closes the child's pidfd.
func (k *killer) watch(ctx context.Context, h *header) (stop func()) {
	cancel := context.AfterFunc(ctx, func() {
		for !k.try(h) {
			time.Sleep(100 * time.Microsecond) // the clone is about to happen
		}
	})
	return func() {
		cancel()
		k.mu.Lock()
		defer k.mu.Unlock()
		k.done = true
		if h.pidfd >= 0 {
			unix.Close(int(h.pidfd))
		}
	}
}

func (k *killer) try(h *header) (over bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.done {
		return true
	}
	fd := atomic.LoadInt32(&h.pidfd)
	if fd < 0 {
		return false
	}
	k.sent = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) == nil
	return true
}

func (k *killer) killed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sent
}

// receive takes what the program sent.
func (t *thread) receive() (fds []int) {
	oob := make([]byte, unix.CmsgSpace(4*253)) // SCM_MAX_FD
	for {
		var b [1]byte
		_, n, _, _, err := unix.Recvmsg(t.sock[0], b[:], oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		if err != nil {
			return fds // EAGAIN: that was all
		}
		messages, _ := unix.ParseSocketControlMessage(oob[:n])
		for _, m := range messages {
			got, _ := unix.ParseUnixRights(&m)
			fds = append(fds, got...)
		}
	}
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
