package spawn

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// initFork is what a Program with ForkInit notes of it.
type initFork struct {
	pid  *int32     // written by the kernel
	args *cloneArgs // ForkCommand says where the pidfd goes
}

// ForkInit gives the command an init: a nested child that executes file and is
// PID 1 of a new PID namespace, while the command, by the ForkCommand that
// follows, is an ordinary process in it. Both are children of the embedder. So
// nothing of the command's start or end passes through the init: it is told by
// the kernel, and can't be forged.
//
// The order is what keeps the embedder's memory out of reach, which a child has
// until its exec: the init has executed file before the command's child is made,
// and the command's child is the last one. Nobody hostile ever lives in the PID namespace
// beside a child that has the memory.
//
// The init runs as ids, with all capabilities of its user namespace if ids.UID
// is its root. A process that lacks one of them can't trace it, nor reach what it has
// in /proc (ptrace(2)); nor can anyone if file can be executed but not read.
func (p *Program) ForkInit(file Ref, ids IDs) {
	if p.init != nil || p.afterExec != nil || p.setup == nil || p.born {
		p.misuse("ForkInit is for Start, once, and before ForkCommand")
		return
	}
	p.Do("unshare", "PID namespace", unix.SYS_UNSHARE, unix.CLONE_NEWPID)
	n, args := p.forkArgs(cloneArgs{flags: unix.CLONE_PIDFD}, NoRef)
	p.init = &initFork{pid: p.nested[len(p.nested)-1], args: args}

	p.Do("setsid", "init", unix.SYS_SETSID)
	// Ignored, which is kept over exec: the kernel reaps what it is left, without
	// waking it (sigaction(2)). All others are at their default, which for PID 1 is to be
	// dropped, if they are not blocked: blocked ones would pile up.
	p.Do("rt_sigaction", "init", unix.SYS_RT_SIGACTION, int(unix.SIGCHLD), p.Words(sigIgn, 0, 0, 0), 0, 8)
	p.Do("rt_sigprocmask", "init", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, p.Words(0), 0, 8)
	p.SetIDs(ids)
	// Without effective capabilities it can't read the file that it executes, also
	// where that is its own: so the kernel makes it not dumpable with the exec. The
	// permitted ones stay; to lose one of those would clear PR_SET_PDEATHSIG.
	p.Do("capset", "init", unix.SYS_CAPSET, p.Words(unix.LINUX_CAPABILITY_VERSION_3), p.capabilities(0, ^uint64(0)))
	p.Do("prctl PR_SET_NO_NEW_PRIVS", "init", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	// It shall hold no descriptor: neither what its parent has, nor, where the table
	// was copied, what the embedder has without FD_CLOEXEC.
	p.Do("close_range", "init", unix.SYS_CLOSE_RANGE, lastFD, lastFD, unix.CLOSE_RANGE_UNSHARE)
	p.Do("dup3", "init", unix.SYS_DUP3, file, 0, unix.O_CLOEXEC)
	p.Do("close_range", "init", unix.SYS_CLOSE_RANGE, 1, lastFD, 0)
	p.Do("execveat", "init", unix.SYS_EXECVEAT, 0, "", p.Strings([]string{"init"}), p.Words(0), unix.AT_EMPTY_PATH)
	p.Mark(n.join)
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
