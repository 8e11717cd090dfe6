package spawn

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// begin adds what every program starts with: the child dies with the thread
// that made it, and has a descriptor table of its own. Whatever it opens, closes or replaces from
// here on is not in the embedder's table.
func (p *Program) begin(t *thread) {
	if p.apart {
		// Before the child is anybody whom those beside it could reach (ptrace_may_access in kernel/ptrace.c).
		if p.dumpable = 0; reachable() {
			p.dumpable = 1
		}
		p.Do("prctl PR_SET_DUMPABLE", "", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, p.dumpable, 0, 0, 0)
	}
	p.dieWithParent()
	p.self, p.sock = t.self, t.sock[1]
	switch {
	case p.copied: // clone without CLONE_FILES gave the child a copy
	case p.born:
		// Here the embedder has no pid that could be opened: its pidfd comes along.
		p.Do("close_range", "", unix.SYS_CLOSE_RANGE, t.self+1, lastFD, unix.CLOSE_RANGE_UNSHARE)
		if t.self > 0 {
			p.Do("close_range", "", unix.SYS_CLOSE_RANGE, 0, t.self-1, 0)
		}
	default:
		// Without CLOSE_RANGE_CLOEXEC the kernel copies nothing of the old table
		// (close_range(2)): the cost does not grow with the embedder's descriptors.
		p.Do("close_range", "", unix.SYS_CLOSE_RANGE, 0, lastFD, unix.CLOSE_RANGE_UNSHARE)
		p.self = p.Do("pidfd_open", "", unix.SYS_PIDFD_OPEN, os.Getpid(), 0)
	}
	if p.base() > 0 || p.copied {
		p.reserve()
		p.self = p.dup(p.self)
	}
	p.sock = p.Input(t.sock[1])
	if p.setup != nil && p.setup.Guard != nil {
		p.guard = p.Input(p.setup.guardSock)
	}
	if p.apart && !reachable() {
		p.hide()
	}
}

// maxCarried bounds how many descriptors a child copies that is born in a PID
// namespace: those below the embedder's own pidfd. From there on a nested child
// costs less.
const maxCarried = 1024

// lastFD is the end of all descriptors for close_range(2).
const lastFD = int(^uint32(0))

// base is where inputs lie at the lowest: the numbers below are the command's.
func (p *Program) base() int {
	if p.setup == nil {
		return 0
	}
	return p.setup.Files
}

// reserve takes the numbers that the command's descriptors get, as far as they
// are free: what the program opens, or the kernel opens for it (CLONE_PIDFD), must
// not be where a dup3 puts one of those.
func (p *Program) reserve() {
	for range p.base() {
		p.Do("fcntl", "", unix.SYS_FCNTL, p.self, unix.F_DUPFD_CLOEXEC, 0)
	}
}

// dup duplicates a descriptor to above those that the command gets.
func (p *Program) dup(fd any) Ref {
	return p.Do("fcntl", "", unix.SYS_FCNTL, fd, unix.F_DUPFD_CLOEXEC, p.base())
}

// fetchOp is the step that fails where ptrace rules keep a child from taking
// a descriptor out of the embedder's table.
const fetchOp = "pidfd_getfd"

// Input makes a descriptor of the embedder's usable by the program.
func (p *Program) Input(fd int) Ref {
	if p.copied {
		return p.dup(fd)
	}
	return p.Do(fetchOp, "", unix.SYS_PIDFD_GETFD, p.self, fd, 0)
}

// CloseFromButSend is CloseFrom for a child that has to Send something yet: the descriptor
// for that becomes the lowest, and is closed with the exec.
func (p *Program) CloseFromButSend(fd int) {
	// It could be that number already, which dup3 would not take.
	above := p.Do("fcntl", "", unix.SYS_FCNTL, p.sock, unix.F_DUPFD_CLOEXEC, fd+1)
	p.Do("dup3", "", unix.SYS_DUP3, above, fd, unix.O_CLOEXEC)
	p.sock = fd
	p.CloseFrom(fd + 1)
}

// CloseFrom closes all descriptors of this number and above.
func (p *Program) CloseFrom(fd int) {
	flags := 0
	if p.nested != nil {
		flags = unix.CLOSE_RANGE_UNSHARE // the parent still needs its table: take a copy of what stays
	}
	p.Do("close_range", "", unix.SYS_CLOSE_RANGE, fd, lastFD, flags)
}

// copyTo stores the result of r, when the program runs.
func (p *Program) copyTo(r Ref, at *int32) {
	if !p.valid(r) {
		return
	}
	if p.entries[r].out != 0 {
		p.misuse("the result of %q is stored twice", p.steps[r].op)
	}
	p.entries[r].out = uintptr(unsafe.Pointer(at))
}

// Send hands descriptors of the child to the embedder: Run returns them in the
// order of the calls, of Start they are in Process.Sent.
func (p *Program) Send(fds ...Ref) {
	control, slots := p.rights(len(fds))
	for i, fd := range fds {
		p.copyTo(fd, &slots[i])
	}
	p.sendBack(control)
}

// rights makes an SCM_RIGHTS message (unix(7)) for n descriptors, which are
// put in while the program runs.
func (p *Program) rights(n int) (control []byte, slots []int32) {
	b, _ := p.alloc(unix.CmsgSpace(4 * n))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.SetLen(unix.CmsgLen(4 * n))
	h.Level, h.Type = unix.SOL_SOCKET, unix.SCM_RIGHTS
	return b, unsafe.Slice((*int32)(unsafe.Pointer(&b[unix.CmsgLen(0)])), n)
}

// sendBack sends a message to the embedder.
func (p *Program) sendBack(control []byte) {
	p.messages++
	p.sendmsg(p.sock, control)
}

func (p *Program) sendmsg(sock any, control []byte) {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	iov := p.Words(p.String("."), 1)
	msg := p.Words(0, 0, iov, 1, uintptr(unsafe.Pointer(h)), uintptr(h.Len), 0)
	p.Do("sendmsg", "descriptors", unix.SYS_SENDMSG, sock, msg, unix.MSG_NOSIGNAL)
}

// Fork adds a nested child that runs what follows, up to Join. Like every
// child it shares the program's memory and keeps its parent in vfork; the
// embedder is its parent, too (CLONE_PARENT). flags are those of clone3(2)
// that make namespaces.
func (p *Program) Fork(flags uint64) *Nested {
	return p.fork(cloneArgs{flags: flags}, NoRef)
}

// A Nested is a child of a program's child.
type Nested struct{ join Label }

// Join ends the nested child; what follows is run by its parent, once the
// nested child has ended.
func (p *Program) Join(n *Nested) {
	p.Exit()
	p.Mark(n.join)
}

func (p *Program) fork(args cloneArgs, cgroup Ref) *Nested {
	b, addr := p.alloc(4)
	args.flags |= unix.CLONE_PARENT | unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_FILES | unix.CLONE_PARENT_SETTID
	args.parentTID = uint64(addr)
	n := &Nested{join: p.Label()}
	size := int(unsafe.Sizeof(args))
	mem, at := p.alloc(size)
	if cgroup != NoRef {
		args.flags |= unix.CLONE_INTO_CGROUP
		p.copyTo(cgroup, (*int32)(unsafe.Pointer(&mem[unsafe.Offsetof(args.cgroup)])))
	}
	copy(mem, unsafe.Slice((*byte)(unsafe.Pointer(&args)), size))
	r := p.Do("clone3", "", unix.SYS_CLONE3, at, size)
	p.Branch(r, Stop, Next, n.join)
	p.nested = append(p.nested, (*int32)(unsafe.Pointer(&b[0])))
	p.dieWithParent()
	return n
}

// Born says whether the child is in the namespaces of its Setup since the clone
// and becomes the command itself.
func (p *Program) Born() bool { return p.born }

// ForkCommand adds the nested child that becomes the command: it runs all
// that follows, up to Exec, and is the Process that Start returns. The kernel
// writes its pidfd into the message that its parent sends to the embedder
// once the command runs. cgroup is a cgroup v2 directory that it is born in
// (CLONE_INTO_CGROUP, 5.7), NoRef for none.
func (p *Program) ForkCommand(flags uint64, cgroup Ref) {
	if p.born {
		p.misuse("ForkCommand of a command that is born")
	}
	if p.afterExec != nil {
		p.misuse("a second ForkCommand")
		return
	}
	control, slots := p.rights(1)
	n := p.fork(cloneArgs{flags: flags | unix.CLONE_PIDFD, pidfd: uint64(uintptr(unsafe.Pointer(&slots[0])))}, cgroup)
	p.afterExec = func(first func()) {
		p.Mark(n.join)
		first()
		p.sendBack(control)
		p.Exit()
	}
}

// Exec ends the program: the child becomes the first of paths that can be
// executed. Where none can, Start returns an *ExecError. last, if not nil, adds calls
// that come just before: once they were made the child makes none but execve and,
// where that fails, exit_group, for a filter that they install may kill it for any other,
// and before Linux 5.16 the dump of its core would take all along that share its memory
// (zap_threads in fs/coredump.c): the embedder.
func (p *Program) Exec(paths, argv, env []string, last func()) {
	if p.atExec != NoRef {
		p.misuse("a second Exec")
		return
	}
	args, vars := p.Strings(argv), p.Strings(env)
	for _, path := range paths {
		p.attempts = append(p.attempts, attempt{path: path, name: p.String(path)})
	}
	if last != nil {
		p.lookAt(p.attempts)
		last()
	}
	p.atExec = Ref(len(p.entries) - 1)
	for i := range p.attempts {
		a := &p.attempts[i]
		a.exec = p.Do("execve", a.path, unix.SYS_EXECVE, a.name, args, vars)
		p.Branch(a.exec, Next, Next, Next)
		if i == 0 {
			p.atExec = a.exec - 1
		}
		if last == nil {
			p.lookAt(p.attempts[i : i+1])
		}
	}
	p.Do(execOp, "", unix.SYS_EXECVE, 0, 0, 0) // EFAULT: stops the program
	if p.afterExec != nil {
		p.afterExec(func() {})
	}
}

// lookAt asks for files that could not be executed, or may not be: are they there?
func (p *Program) lookAt(list []attempt) {
	for i := range list {
		list[i].exists = p.Try("faccessat", list[i].path, unix.SYS_FACCESSAT, unix.AT_FDCWD, list[i].name, unix.F_OK)
	}
}

// execOp is the step that stops a program none of whose paths could be executed.
const execOp = "exec"

// attempt is one path that Exec tried.
type attempt struct {
	path         string
	name         uintptr // path in the program's memory
	exec, exists Ref
}

// Exit ends a child successfully.
func (p *Program) Exit() {
	p.Do(exitOp, "", unix.SYS_EXIT_GROUP, 0)
}

const exitOp = "exit"

// WordAndFD puts a 64-bit word and, behind it, a descriptor as int32 into the
// program's memory when it runs: a struct of the kernel's.
func (p *Program) WordAndFD(word uint64, fd Ref) uintptr {
	b, addr := p.alloc(16)
	*(*uint64)(unsafe.Pointer(&b[0])) = word
	p.copyTo(fd, (*int32)(unsafe.Pointer(&b[8])))
	return addr
}

// Store has the result of r put into memory as an int32 when the program runs,
// and returns the address.
func (p *Program) Store(r Ref) uintptr {
	b, addr := p.alloc(4)
	p.copyTo(r, (*int32)(unsafe.Pointer(&b[0])))
	return addr
}
