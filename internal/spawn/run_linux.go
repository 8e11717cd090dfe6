package spawn

import (
	"bytes"
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Run builds a program and runs it to its end. It returns the descriptors that
// the program sent, which the caller owns, and the program, for its results.
// build may be called twice. When ctx ends the child is killed; should it then
// hang in the kernel, as in a read from a disk that does not answer, Run waits.
func Run(ctx context.Context, build func(*Program)) ([]int, *Program, error) {
	r, err := doHere(ctx, nil, func(p *Program) { build(p); p.Exit() })
	return r.fds, r.p, err
}

// A Setup is what must be known of a command before its program is built.
type Setup struct {
	// Files is how many descriptors the command gets, numbered from 0: what the
	// program itself works with stays above them.
	Files int
	// Namespaces are flags of clone3(2) for a first child that shall be born in new
	// namespaces, or in the PID namespace of Init, and become the command itself, which saves the nested child that
	// ForkCommand makes. The embedder must be privileged to make them. Program.Born
	// says whether it is so: where it can't be, the program has to ForkCommand.
	Namespaces uint64
	// Cgroup is a cgroup v2 directory that such a first child is born in
	// (CLONE_INTO_CGROUP, 5.7); nil: the embedder's.
	Cgroup *os.File
	// Init is PID 1 of the PID namespace that the command is to be started in; nil: it is PID 1
	// itself. A command that could be started has taken it over: see Process.Wait.
	Init *Init
	// PIDs is a PID namespace in which others live, hostile ones perhaps, that the command is started in; nil: none. The
	// child then has a copy of the embedder's memory, and is not dumpable: see Program.apart.
	PIDs *os.File
	// Guard is the program of a process that kills the command when the embedder ends (tinyinit.OpenGuard), for one that is
	// PID 1 and calls Program.Guarded; nil: none.
	Guard *os.File

	guardSock int // the socket that takes what is guarded
}

// pids is the PID namespace of others that the command is started in; -1: none.
func (s *Setup) pids() int {
	switch {
	case s.Init != nil:
		return s.Init.ns
	case s.PIDs != nil:
		return int(s.PIDs.Fd())
	}
	return -1
}

// StartHere is Start for a goroutine that is locked to its thread
// (runtime.LockOSThread) and stays so until the command has ended, for the command
// dies with the thread. It waits by WaitHere. It is as Run in what it waits for.
func StartHere(ctx context.Context, s Setup, build func(*Program)) (*Process, error) {
	r, err := doHere(ctx, &s, build)
	if err != nil {
		return nil, err
	}
	p := r.process()
	p.takeOver(s.Init)
	return p, nil
}

// Start builds a program that ends in Exec and runs it until the command is
// running. The caller must Wait for the Process and Close it.
func Start(ctx context.Context, s Setup, build func(*Program)) (*Process, error) {
	r, err := do(ctx, &s, build)
	if err != nil {
		return nil, err
	}
	p, err := newProcess(r.pid, r.pidfd)
	if err != nil {
		r.discard()
		return nil, err
	}
	p.takeOver(s.Init)
	p.Sent, p.guest = r.fds, s.PIDs != nil
	return p, nil
}

// process is the command, to be waited for by a thread.
func (r *run) process() *Process {
	known.add(r.pid)
	return &Process{PID: r.pid, pidfd: r.pidfd, Sent: r.fds}
}

// run is one execution of a program.
type run struct {
	p     *Program
	pid   int   // of the command, 0 if there is none
	pidfd int   // of the command, else of the first child; -1 if there is none
	fds   []int // that came back
	err   error
}

// copyTables remembers that ptrace rules keep children from fetching single
// descriptors of ours (Yama, an outer seccomp profile): they copy the table.
var copyTables atomic.Bool

// do runs a program; s is nil for one that starts no command. With an error the
// run holds nothing.
func do(ctx context.Context, s *Setup, build func(*Program)) (*run, error) {
	none := &run{p: &Program{}, pidfd: -1}
	if err := s.ready(ctx); err != nil {
		return none, err
	}
	var r *run
	var decided atomic.Bool // the thread is done, or the caller gave up: which was first
	err := onThread(ctx, func(t *thread) {
		r = t.run(ctx, s, build)
		if !decided.CompareAndSwap(false, true) {
			r.discard()
		}
	})
	if err != nil && decided.CompareAndSwap(false, true) {
		return none, err
	}
	return r, r.err
}

// ready sees to what must be there before a program is built.
func (s *Setup) ready(ctx context.Context) (err error) {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if s != nil && s.Guard != nil {
		s.guardSock, err = theGuard.socket(ctx, s.Guard)
	}
	return err
}

// doHere is do on the caller's thread.
func doHere(ctx context.Context, s *Setup, build func(*Program)) (*run, error) {
	r := &run{p: &Program{}, pidfd: -1}
	if err := s.ready(ctx); err != nil {
		return r, err
	}
	if err := here(ctx, func(t *thread) { r = t.run(ctx, s, build) }); err != nil {
		return r, err
	}
	return r, r.err
}

// run runs the program once, or once more with another way to get at descriptors.
func (t *thread) run(ctx context.Context, s *Setup, build func(*Program)) *run {
	r := t.once(ctx, s, copyTables.Load(), build)
	var e *Error
	if !errors.As(r.err, &e) || e.Op != fetchOp || r.p.copied || (e.Errno != unix.EPERM && e.Errno != unix.ENOSYS) {
		return r
	}
	// An embedder that is not dumpable is out of reach for its ordinary user's
	// children. That may be for the moment only: another program that changes
	// ids has it so for some microseconds.
	if e.Errno == unix.ENOSYS || r.p.dumpable == 1 && programsInFlight() == 0 {
		copyTables.Store(true)
	}
	return t.once(ctx, s, true, build)
}

func (t *thread) once(ctx context.Context, s *Setup, copied bool, build func(*Program)) *run {
	p := &Program{atExec: NoRef, setup: s, copied: copied, home: -1, header: &header{all: ^uint64(0), pidfd: -1}}
	p.born = s != nil && s.Namespaces != 0 && (copied || t.self < maxCarried)
	if p.born && s.pids() >= 0 {
		p.home = childrenNamespace()
		p.born = p.home >= 0
		defer unix.Close(p.home)
	}
	r := &run{p: p, pidfd: -1}
	if p.apart = s != nil && s.PIDs != nil; p.apart {
		giveBack, err := p.mapMemory()
		if err != nil {
			r.err = err
			return r
		}
		defer giveBack()
	} else {
		var restore func()
		p.dumpable, restore = saveDumpable()
		defer restore()
		defer p.borrow()()
	}
	defer p.bindToThread()()
	p.begin(t)
	build(p)
	p.link()
	if h := hook.Load(); h != nil && h.Calls != nil {
		h.Calls(len(p.entries))
	}
	if r.err = p.err; r.err == nil {
		r.clone(ctx, t)
	}
	if r.err != nil {
		r.discard()
	}
	return r
}

// clone runs the linked program.
func (r *run) clone(ctx context.Context, t *thread) {
	p, h := r.p, r.p.header
	h.args.flags = unix.CLONE_VFORK | unix.CLONE_PIDFD | unix.CLONE_PARENT_SETTID | unix.CLONE_CLEAR_SIGHAND
	if !p.apart {
		h.args.flags |= unix.CLONE_VM
	}
	if !p.copied {
		h.args.flags |= unix.CLONE_FILES
	}
	if p.born {
		h.args.flags |= p.setup.Namespaces
		if p.setup.pids() >= 0 {
			h.args.flags &^= unix.CLONE_NEWPID
		}
		if p.setup.Cgroup != nil {
			h.args.flags |= unix.CLONE_INTO_CGROUP
			h.args.cgroup = uint64(p.setup.Cgroup.Fd())
		}
	}
	h.args.pidfd = uint64(uintptr(unsafe.Pointer(&h.pidfd)))
	h.args.parentTID = uint64(uintptr(unsafe.Pointer(&h.child)))

	var k killer
	stop := k.watch(ctx, h)
	pid := p.cloneBeside(h)
	killed := stop()
	if int(pid) < 0 {
		// The kernel may have written a number to h.pidfd: it is not ours.
		r.err = &Error{Op: "clone3", Errno: syscall.Errno(-pid)}
		return
	}
	r.pidfd = int(h.pidfd)
	r.err = r.settle(int(pid), killed)
	// Not before all children are accounted for: one may have sent until then,
	// and the next program on this thread must not get it.
	var cut bool
	if r.err != nil {
		p.messages = -1 // nobody knows how many were sent
	}
	r.fds, cut = t.receive(p.messages)
	runtime.KeepAlive(p)
	switch {
	case r.err != nil && killed:
		r.err = context.Cause(ctx)
	case r.err == nil && cut:
		r.err = &Error{Op: "recvmsg", Path: "descriptors", Errno: unix.EMFILE}
	case r.err == nil && p.afterExec != nil:
		unix.Close(r.pidfd)
		r.takeCommand()
	case r.err == nil && p.setup == nil:
		unix.Close(r.pidfd)
		r.pidfd = -1
	}
}

// takeCommand makes the pidfd of the command the run's; it is the last that was sent.
func (r *run) takeCommand() {
	if last := len(r.fds) - 1; last+1 == r.p.messages {
		r.pidfd, r.fds = r.fds[last], r.fds[:last]
		return
	}
	// Who was to send it was killed. Nobody has waited for the child, which has sent the others before its exec.
	r.pidfd, r.err = unix.PidfdOpen(r.pid, 0)
}

// discard gives back what a run holds that nobody wants, a running command too.
func (r *run) discard() {
	if r.pid != 0 {
		kill(r.pid)
		r.bury(r.pid)
		r.pid = 0
	}
	if r.pidfd >= 0 {
		unix.Close(r.pidfd)
		r.pidfd = -1
	}
	closeAll(r.fds)
	r.fds = nil
}

// settle accounts for every child of the program: it returns once each has
// ended or is the running command, for until then they use its memory. killed
// says that the first child was sent a SIGKILL. That may have come too late: a
// command that was executed is the caller's.
func (r *run) settle(pid int, killed bool) error {
	p := r.p
	p.collect()
	if p.setup != nil && p.afterExec == nil && p.executed() && (!killed || execed(pid)) {
		r.pid = pid
	} else {
		if p.beforeReap != nil && p.stopped() == nil && !killed {
			r.err = p.beforeReap(pid)
		}
		killed = reap(pid).Signaled() || killed
		p.collect()
	}
	for i, child := range slices.Backward(p.nested) {
		n := int(atomic.LoadInt32(child))
		if n == 0 {
			continue
		}
		isCommand := p.afterExec != nil && i == len(p.nested)-1
		if isCommand && p.executed() && (!killed || execed(n)) {
			r.pid = n
			continue
		}
		if killed || isCommand { // a command whose pidfd could not be sent runs
			kill(n)
		}
		if r.bury(n).Signaled() {
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

// executed says whether the command was started: it came to its exec, and that
// did not fail.
func (p *Program) executed() bool {
	return p.stopped() == nil && p.atExec != NoRef && p.results[p.atExec] != uncalled
}

// execed says whether a child that has not been waited for is past its exec.
func execed(pid int) bool {
	const forkNoExec = 0x40 // PF_FORKNOEXEC
	flags, ok := taskFlags(strconv.Itoa(pid))
	return ok && flags&forkNoExec == 0
}

// taskFlags are the PF_ flags of a thread (proc_pid_stat(5)).
func taskFlags(thread string) (flags uint64, ok bool) {
	b, err := os.ReadFile("/proc/" + thread + "/stat")
	if err != nil {
		return 0, false
	}
	// The fields after the name, which may have spaces and parentheses.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 7 {
		return 0, false
	}
	flags, err = strconv.ParseUint(fields[6], 10, 64)
	return flags, err == nil
}

// BeforeReap has f called with the pid of the first child after that has ended
// and before it has been waited for: its /proc/PID is still there.
func (p *Program) BeforeReap(f func(pid int) error) { p.beforeReap = f }

// uncalled is the Result of a call that the program did not come to.
const uncalled = -int(unix.ECANCELED)

// collect copies the results out of the program.
func (p *Program) collect() {
	p.results = slices.Grow(p.results[:0], len(p.entries))
	for i := range p.entries {
		r := atomic.LoadUintptr(&p.entries[i].ret)
		if r == notRun {
			p.results = append(p.results, uncalled)
			continue
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

// bury is reap for a child that nobody wants. One that is started where others live may be traced by them, and then can't be
// waited for until they let go: it has none of our memory, and we go on without.
func (r *run) bury(pid int) (status unix.WaitStatus) {
	if !r.p.apart {
		return reap(pid)
	}
	for range 20 {
		if n, err := unix.Wait4(pid, &status, unix.WALL|unix.WNOHANG, nil); n != 0 && err != unix.EINTR {
			return status
		}
		time.Sleep(time.Millisecond)
	}
	go reapLater(pid)
	return unix.WaitStatus(unix.SIGKILL)
}

// reapLater waits for a child. It ends when that has, with its PID namespace at the latest.
func reapLater(pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // a mourner finds it
	}
	p, err := newProcess(pid, fd)
	if err != nil {
		unix.Close(fd)
		return
	}
	_, _ = p.Wait(context.Background())
	_ = p.Close()
}

// kill ends a child that was left alone in the program's memory, or that nobody
// wants any more. Its pid can't be another process's: it has not been waited
// for. A pidfd would need a descriptor, and there may be none left.
func kill(pid int) {
	_ = unix.Kill(pid, unix.SIGKILL) // ESRCH: it has ended
}

// killer ends a program's child when a context ends, wherever it is.
type killer struct {
	mu   sync.Mutex
	sent bool
	done bool
}

// watch must be stopped, by the function that it returns, before the child's
// pidfd is closed; that says whether the child has been sent a SIGKILL.
func (k *killer) watch(ctx context.Context, h *header) (stop func() bool) {
	cancel := context.AfterFunc(ctx, func() {
		for !k.try(h) {
			time.Sleep(100 * time.Microsecond) // the clone is about to happen
		}
	})
	return func() bool {
		cancel()
		k.mu.Lock()
		defer k.mu.Unlock()
		k.done = true
		return k.sent
	}
}

// try waits for h.child: h.pidfd is written before the descriptor is there, and
// also when the clone fails later on.
func (k *killer) try(h *header) (over bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.done {
		return true
	}
	if atomic.LoadInt32(&h.child) == 0 {
		return false
	}
	k.sent = unix.PidfdSendSignal(int(h.pidfd), unix.SIGKILL, nil, 0) == nil
	return true
}

// receive takes the n messages that the program sent, all there are if n is
// negative. cut says that a descriptor is missing: the embedder has as many as it
// may (RLIMIT_NOFILE).
func (t *thread) receive(n int) (fds []int, cut bool) {
	var oob []byte
	for ; n != 0; n-- {
		if oob == nil {
			oob = make([]byte, unix.CmsgSpace(4*253)) // SCM_MAX_FD
		}
		var b [1]byte
		_, size, flags, _, err := unix.Recvmsg(t.sock[0], b[:], oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			n++
			continue
		}
		if err != nil {
			return fds, cut // EAGAIN: that was all
		}
		cut = cut || flags&unix.MSG_CTRUNC != 0
		messages, _ := unix.ParseSocketControlMessage(oob[:size])
		for _, m := range messages {
			got, _ := unix.ParseUnixRights(&m)
			fds = append(fds, got...)
		}
	}
	return fds, cut
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
