package spawn

import (
	"context"
	"errors"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Process is a running command, an ordinary child of the embedder. It is
// held and waited for by its pidfd, in Go's poller: no thread waits.
type Process struct {
	PID int

	// Sent are the descriptors that its program sent: the caller's.
	Sent []int

	// Alone, if it is set before Wait, is asked when the command has ended whether nobody
	// else can be in its PID namespace. Its init then lives on, for TakeInit.
	Alone func() bool

	guest bool // it was started beside others (Setup.PIDs)

	init *Process // PID 1 of the command's namespace; nil: the command itself
	last *State   // how the command ended, while its init has not

	initEnded, initTaken bool // for those who wait and close

	mourner mourner

	// Of Start: in the poller.
	fd  *os.File
	raw syscall.RawConn
	// Of StartHere.
	mu     sync.RWMutex
	pidfd  int
	closed bool
}

func newProcess(pid, fd int) (*Process, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	known.add(pid)
	return &Process{PID: pid, fd: f, raw: raw}, nil
}

// State is how a Process ended.
type State struct {
	Status unix.WaitStatus
	// Known is false if another wait of the embedder's took the status, and the
	// kernel could not tell it any more (PIDFD_GET_INFO, 6.15, can).
	Known bool
	// Rusage is nil where it is not known.
	Rusage *unix.Rusage
}

// takeOver makes i the command's init; nil is none.
func (p *Process) takeOver(i *Init) {
	if i != nil {
		i.leave()
		p.init, p.mourner.pids = i.Process, i.mourner.pids
	}
}

// Wait waits for the end of the process and then, if it has an init, ends that
// and with it what is left in its PID namespace; only one call may be made at a
// time, and no further one after it returned a State. It returns the context's
// error when ctx ends first.
func (p *Process) Wait(ctx context.Context) (State, error) {
	return p.withInit(func(p *Process) (State, error) { return p.wait(ctx) })
}

// WaitHere is Wait for a process of StartHere's, blocking its thread.
func (p *Process) WaitHere() (State, error) {
	return p.withInit((*Process).waitHere)
}

// withInit waits for the command, and then for its init.
func (p *Process) withInit(wait func(*Process) (State, error)) (State, error) {
	if p.last == nil {
		s, err := wait(p)
		if err != nil {
			return s, err
		}
		known.remove(p.PID)
		p.last = &s
	}
	if p.init != nil && (p.Alone == nil || !p.Alone()) {
		_ = p.Kill() // it may be over
		if _, err := wait(p.init); err != nil {
			return State{}, err
		}
		known.remove(p.init.PID)
		p.initEnded = true
	}
	p.mourner.stop()
	return *p.last, nil
}

// TakeInit returns the init of a command that was waited for and was alone, and makes it the caller's; nil: there is none
// or it has ended.
func (p *Process) TakeInit() *Init {
	if p.init == nil || p.initEnded || p.initTaken {
		return nil
	}
	p.initTaken = true
	return &Init{p.init, -1}
}

func (p *Process) wait(ctx context.Context) (State, error) {
	if p.fd == nil { // an init
		return p.waitPolled(ctx)
	}
	stop := context.AfterFunc(ctx, func() { p.fd.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var s State
	var waitErr error
	err := p.raw.Read(func(fd uintptr) bool {
		var done bool
		s, done, waitErr = waitid(int(fd), unix.WNOHANG)
		return done
	})
	switch {
	case err == nil:
		return s, waitErr
	case ctx.Err() != nil:
		p.fd.SetReadDeadline(time.Time{})
		return State{}, context.Cause(ctx)
	}
	return State{}, err
}

// waitPolled is wait for a process that is not in the poller.
func (p *Process) waitPolled(ctx context.Context) (State, error) {
	fd, err := unix.FcntlInt(uintptr(p.pidfd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return State{}, os.NewSyscallError("fcntl", err)
	}
	polled, err := newProcess(p.PID, fd)
	if err != nil {
		return State{}, err
	}
	defer polled.Close()
	return polled.wait(ctx)
}

func (p *Process) waitHere() (State, error) {
	for {
		s, done, err := waitid(p.pidfd, 0)
		if done {
			return s, err
		}
		// Not ours to wait for, and not ended: its end makes the pidfd readable.
		fds := []unix.PollFd{{Fd: int32(p.pidfd), Events: unix.POLLIN}}
		_, _ = unix.Poll(fds, -1)
	}
}

// control runs f with the pidfd, which can't be closed meanwhile.
func (p *Process) control(f func(fd int)) error {
	if p.fd != nil {
		return p.raw.Control(func(fd uintptr) { f(int(fd)) })
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return os.ErrClosed
	}
	f(p.pidfd)
	return nil
}

// waitid asks once; with WNOHANG it does not block.
func waitid(fd, flags int) (s State, done bool, err error) {
	var info unix.Siginfo
	usage := new(unix.Rusage)
	for {
		err = unix.Waitid(unix.P_PIDFD, fd, &info, unix.WEXITED|unix.WALL|flags, usage)
		if err != unix.EINTR {
			break
		}
	}
	if err == unix.ECHILD {
		if !ended(fd) {
			return State{}, false, nil
		}
		return stolen(fd), true, nil
	}
	if err != nil {
		return State{}, true, os.NewSyscallError("waitid", err)
	}
	// siginfo_t: si_signo, si_errno, si_code, (padding), si_pid, si_uid, si_status.
	fields := (*[7]int32)(unsafe.Pointer(&info))
	if fields[4] == 0 {
		return State{}, false, nil
	}
	if info.Code > cldDumped {
		// A child that called PTRACE_TRACEME made us its tracer, and now waits for
		// us to go on: it would neither end nor be killed with its sandbox. Waits
		// report that unasked (ptrace(2)).
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // ESRCH: it has ended
		return State{}, false, nil
	}
	return State{Status: waitStatus(info.Code, fields[6]), Known: true, Rusage: usage}, true, nil
}

// The values of si_code of a child that has ended (sigaction(2)).
const (
	cldExited = 1
	cldDumped = 3
)

// waitStatus makes the status word of wait(2) from si_code and si_status.
func waitStatus(code, status int32) unix.WaitStatus {
	switch code {
	case cldExited:
		return unix.WaitStatus(status&0xff) << 8
	case cldDumped:
		return unix.WaitStatus(status&0x7f | 0x80)
	}
	return unix.WaitStatus(status & 0x7f)
}

// ended says whether the process is over, though it is not ours to wait for.
func ended(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, _ := unix.Poll(fds, 0)
	return n > 0
}

// stolen asks the pidfd for a status that another wait took, or that the kernel
// dropped since the embedder ignores SIGCHLD. The end of a process shows, and
// hides it from waitid, some microseconds before its status can be had.
func stolen(fd int) State {
	if h := hook.Load(); h != nil && h.NoExitInfo {
		return State{}
	}
	for {
		gone := unix.PidfdSendSignal(fd, 0, nil, 0) == unix.ESRCH
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		err := unix.IoctlPidfdInfo(fd, &info)
		switch {
		case err == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0:
			return State{Status: unix.WaitStatus(info.Exit_code), Known: true}
		case gone || err != nil && err != unix.ESRCH:
			return State{} // before 6.15
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// Signal sends a signal to the process. It returns os.ErrProcessDone when that
// has ended.
func (p *Process) Signal(sig syscall.Signal) error {
	var err error
	if e := p.control(func(fd int) { err = unix.PidfdSendSignal(fd, sig, nil, 0) }); e != nil {
		return os.ErrProcessDone
	}
	if err == unix.ESRCH {
		return os.ErrProcessDone
	}
	return os.NewSyscallError("pidfd_send_signal", err)
}

// Kill kills the process with all that is in its PID namespace. It returns
// os.ErrProcessDone when that has ended.
func (p *Process) Kill() error {
	first := p
	if p.init != nil {
		first = p.init
	}
	err := first.Signal(syscall.SIGKILL)
	if err == nil {
		p.mourner.start(p)
	}
	return err
}

// Close gives the descriptors back. It neither ends the process nor waits for it.
func (p *Process) Close() error {
	if p.init != nil && !p.initTaken {
		return errors.Join(p.close(), p.init.close())
	}
	return p.close()
}

func (p *Process) close() error {
	if p.fd != nil {
		return p.fd.Close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return os.ErrClosed
	}
	p.closed = true
	return os.NewSyscallError("close", unix.Close(p.pidfd))
}
