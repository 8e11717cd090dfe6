package spawn

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

// A guard is a process that kills commands of this program when that has ended. It does what PR_SET_PDEATHSIG is for, but for
// commands that are PID 1 themselves, which can undo that. (Nobody can undo it for an init; and what is beside either ends
// with it.)
type guard struct {
	lock       chan struct{} // held while what follows is used
	pid, pidfd int           // 0: there is none yet
	sock       int           // our end of the socket that takes pidfds: the same number for good; -1: none yet
}

// theGuard is that of all commands, from the first on. Should somebody kill it, there is another one from the next command on,
// which knows none of those before.
var theGuard = guard{lock: make(chan struct{}, 1), sock: -1}

// socket returns our end of it, where a guard is at the other. file is its program (tinyinit.OpenGuard).
func (g *guard) socket(ctx context.Context, file *os.File) (int, error) {
	select {
	case g.lock <- struct{}{}:
	case <-ctx.Done():
		return -1, context.Cause(ctx)
	}
	defer func() { <-g.lock }()
	if g.pid != 0 && !ended(g.pidfd) {
		return g.sock, nil
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socketpair", err)
	}
	defer unix.Close(pair[1])
	r, err := do(ctx, &Setup{Files: 2}, func(p *Program) { p.execGuard(pair[1], file) })
	if err != nil {
		unix.Close(pair[0])
		return -1, err
	}
	g.bury()
	g.pid, g.pidfd = r.pid, r.pidfd
	if g.sock < 0 {
		g.sock = pair[0]
		return g.sock, nil
	}
	// A program that is being built has the number: what it finds there is the one or the other.
	defer unix.Close(pair[0])
	return g.sock, os.NewSyscallError("dup3", unix.Dup3(pair[0], g.sock, unix.O_CLOEXEC))
}

// bury waits for a guard that has ended.
func (g *guard) bury() {
	if g.pid == 0 {
		return
	}
	// By its pidfd: another wait of this program may have taken it, and its number may be another child's by now.
	for unix.Waitid(unix.P_PIDFD, g.pidfd, nil, unix.WEXITED|unix.WALL, nil) == unix.EINTR {
	}
	unix.Close(g.pidfd)
	g.pid, g.pidfd = 0, -1
}

// release ends it, for Release.
func (g *guard) release() {
	g.lock <- struct{}{}
	defer func() { <-g.lock }()
	if g.sock >= 0 {
		unix.Close(g.sock)
		g.sock = -1
	}
	g.bury()
}

// execGuard adds the program of the guard. It has two descriptors: its end of the socket, and a pidfd of ours.
func (p *Program) execGuard(sock int, file *os.File) {
	theirs, program := p.Input(sock), p.Input(int(file.Fd()))
	p.Do("prctl PR_SET_PDEATHSIG", "guard", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, 0, 0, 0, 0)
	// Nothing that is meant for the embedder's terminal or process group reaches it.
	p.Do("setsid", "guard", unix.SYS_SETSID)
	p.Do("rt_sigprocmask", "guard", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, p.Words(^uintptr(0)), 0, 8)
	p.Do("chdir", "/", unix.SYS_CHDIR, "/")
	// Of each command it has one descriptor, where the embedder has two.
	var limit unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		p.fail(os.NewSyscallError("prlimit", err))
	}
	p.Try("prlimit64", "guard", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, p.Words(uintptr(limit.Max), uintptr(limit.Max)), 0)
	p.Do("dup3", "guard", unix.SYS_DUP3, theirs, 0, 0)
	p.Do("dup3", "guard", unix.SYS_DUP3, p.self, 1, 0)
	p.Do("dup3", "guard", unix.SYS_DUP3, program, 2, unix.O_CLOEXEC)
	p.Do("close_range", "guard", unix.SYS_CLOSE_RANGE, 3, lastFD, 0)
	p.atExec = -1 + p.Do("execveat", "guard", unix.SYS_EXECVEAT, 2, "", p.Strings([]string{"sandbox-guard"}), p.Words(0), unix.AT_EMPTY_PATH)
	p.Exit() // never
}

// Guarded adds the calls that put the child, PID 1 of its PID namespace, under the guard, if the Setup has one. What it forks
// is not; with PID 1 ends all.
func (p *Program) Guarded() {
	if p.setup == nil || p.setup.Guard == nil || unguarded() {
		return
	}
	control, slots := p.rights(1)
	pid := p.Do("getpid", "", unix.SYS_GETPID)
	p.copyTo(p.Do("pidfd_open", "the command", unix.SYS_PIDFD_OPEN, pid, 0), &slots[0])
	p.sendmsg(p.guard, control)
}
