package spawn

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An Init is PID 1 of a PID namespace in which a command can be started, as an ordinary process of it
// (Setup.Init). Both are children of the embedder. So nothing of the command's start or end passes through the init: it is
// told by the kernel, and can't be forged.
//
// It was executed before a child of the command's program is made, and that is the last one. Nobody hostile ever
// lives in the PID namespace beside a child that has the embedder's memory.
type Init struct {
	*Process
	ns int // the PID namespace; -1: given back
}

// StartInit builds a program that ends in ExecInit and runs it. The Init must be closed, or be taken over by a command.
func StartInit(ctx context.Context, s Setup, build func(*Program)) (*Init, error) {
	r, err := do(ctx, &s, build)
	if err != nil {
		return nil, err
	}
	if len(r.fds) == 0 { // who was to send it was killed
		r.discard()
		return nil, &Error{Op: "child", Errno: unix.EINTR, Killed: true}
	}
	i := &Init{r.process(), r.fds[0]}
	r.fds = nil
	var st unix.Stat_t
	if unix.Fstat(i.ns, &st) == nil {
		i.mourner.pids = st.Ino
	}
	return i, nil
}

// Ended says whether it is gone, or about to: it ends when all in its PID namespace have been waited for
// (zap_pid_ns_processes in kernel/pid_namespace.c).
func (i *Init) Ended() bool { return exiting(i.PID) || ended(i.pidfd) }

// Ending says whether the command or its init is about to end, or has: with that nobody can be born in their PID namespace any
// more (ENOMEM), and who was is killed.
func (p *Process) Ending() bool {
	return p.Signal(0) != nil || exiting(p.PID) || p.init != nil && exiting(p.init.PID)
}

// exiting asks all threads: the first may have ended alone.
func exiting(pid int) bool {
	const exiting = 0x4 // PF_EXITING
	if flags, ok := taskFlags(strconv.Itoa(pid)); !ok || flags&exiting == 0 {
		return !ok
	}
	for _, tid := range threadsOf(pid) {
		if flags, ok := taskFlags(fmt.Sprintf("%d/task/%d", pid, tid)); ok && flags&exiting == 0 {
			return false
		}
	}
	return true
}

// CloseInits ends them, with all that is in their PID namespaces.
func CloseInits(all ...*Init) {
	for _, i := range all {
		kill(i.PID)
	}
	for _, i := range all {
		reap(i.PID)
		known.remove(i.PID)
		_ = i.Close()
		i.leave()
	}
}

// Alone is the init as the only process of its namespace, in Go's poller: who takes it waits for it and closes it. After an error
// the init is as it was.
func (i *Init) Alone() (*Process, error) {
	fd, err := unix.FcntlInt(uintptr(i.pidfd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	p, err := newProcess(i.PID, fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	p.mourner.pids = i.mourner.pids
	_ = i.Close()
	i.leave()
	return p, nil
}

// leave gives back what a start in the namespace needs.
func (i *Init) leave() {
	if i.ns >= 0 {
		unix.Close(i.ns)
		i.ns = -1
	}
}

// childrenNamespace is where the children of this thread are born, to come back to; -1: that is not known.
func childrenNamespace() int {
	fd, err := unix.Open("/proc/thread-self/ns/pid_for_children", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return fd
}

// cloneBeside clones the first child, one that is born behind an init in the namespace of that. Where its children are born
// is a setting of the thread (setns(2)). Go makes no thread from one that is locked to its goroutine, as this one is.
func (p *Program) cloneBeside(h *header) uintptr {
	if p.home < 0 {
		return blockingClone(h)
	}
	if errno := setChildren(p.setup.pids()); errno != 0 {
		return -uintptr(errno)
	}
	pid := blockingClone(h)
	for {
		switch setChildren(p.home) {
		case 0:
			return pid
		case unix.ENOMEM:
			time.Sleep(time.Millisecond)
		default:
			// Somebody took our privilege away meanwhile. Never unlocked, the thread ends with its goroutine: what
			// others start is not born there.
			runtime.LockOSThread()
			return pid
		}
	}
}

// setChildren has the children of this thread be born in a PID namespace.
func setChildren(ns int) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_SETNS, uintptr(ns), unix.CLONE_NEWPID, 0)
	return errno
}

// OwnNamespaces opens the directory of the child's namespaces, for ExecInit.
func (p *Program) OwnNamespaces() Ref {
	return p.Do("open", "/proc/self/ns", unix.SYS_OPENAT, unix.AT_FDCWD, "/proc/self/ns", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// PIDNamespace is that of the command's init, or of those beside whom it is started, to be entered by setns(2) before
// ForkCommand, where the command is not born in it.
func (p *Program) PIDNamespace() Ref {
	if p.setup == nil || p.setup.pids() < 0 {
		p.misuse("PIDNamespace without an Init or PIDs")
		return NoRef
	}
	return p.Input(p.setup.pids())
}

// ExecInit ends the program of an init, which is PID 1 of its PID namespace and executes file. namespaces are
// OwnNamespaces of the first child.
//
// The init keeps all capabilities of its user namespace. A process that lacks one of them can't trace it, nor reach what it
// has in /proc (ptrace(2)); nor can anyone if file can be executed but not read.
func (p *Program) ExecInit(file, namespaces Ref) {
	if p.base() == 0 {
		p.misuse("ExecInit without Setup.Files: it is executed by descriptor 0")
		return
	}
	p.Do("setsid", "init", unix.SYS_SETSID)
	// Ignored, which is kept over exec: the kernel reaps what it is left, without
	// waking it (sigaction(2)). All others are at their default, which for PID 1 is to be
	// dropped, if they are not blocked: blocked ones would pile up.
	p.Do("rt_sigaction", "init", unix.SYS_RT_SIGACTION, int(unix.SIGCHLD), p.Words(sigIgn, 0, 0, 0), 0, 8)
	p.Do("rt_sigprocmask", "init", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, p.Words(0), 0, 8)
	// Without effective capabilities it can't read the file that it executes, also
	// where that is its own: so the kernel makes it not dumpable with the exec. The
	// permitted ones stay; to lose one of those would clear PR_SET_PDEATHSIG.
	p.Do("capset", "init", unix.SYS_CAPSET, p.Words(unix.LINUX_CAPABILITY_VERSION_3), p.capabilities(0, ^uint64(0)))
	p.Do("prctl PR_SET_NO_NEW_PRIVS", "init", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if p.born {
		p.sendNamespace(namespaces, "pid")
	}
	// It shall hold no descriptor: neither what its parent has, nor, where the table
	// was copied, what the embedder has without FD_CLOEXEC.
	if p.nested != nil {
		p.Do("close_range", "init", unix.SYS_CLOSE_RANGE, lastFD, lastFD, unix.CLOSE_RANGE_UNSHARE)
	}
	p.Do("dup3", "init", unix.SYS_DUP3, file, 0, unix.O_CLOEXEC)
	p.Do("close_range", "init", unix.SYS_CLOSE_RANGE, 1, lastFD, 0)
	p.atExec = -1 + p.Do("execveat", "init", unix.SYS_EXECVEAT, 0, "", p.Strings([]string{"init"}), p.Words(0), unix.AT_EMPTY_PATH)
	p.Exit() // never
	if p.afterExec != nil {
		p.afterExec(func() { p.sendNamespace(namespaces, "pid_for_children") })
	}
}

func (p *Program) sendNamespace(dir Ref, name string) {
	p.Send(p.Do("open", "/proc/self/ns/"+name, unix.SYS_OPENAT, dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0))
}

const sigIgn = 1 // SIG_IGN

// capabilities makes the data of capset(2): the inheritable set is empty.
func (p *Program) capabilities(effective, permitted uint64) uintptr {
	b, addr := p.alloc(int(2 * unsafe.Sizeof(unix.CapUserData{})))
	sets := unsafe.Slice((*unix.CapUserData)(unsafe.Pointer(&b[0])), 2)
	for i := range sets {
		sets[i].Effective, sets[i].Permitted = uint32(effective>>(32*i)), uint32(permitted>>(32*i))
	}
	return addr
}
