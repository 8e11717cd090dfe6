package world

import (
	"context"
	"os"
	"path"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/seccomp"
	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// A Command says what runs in a World, with everything resolved.
type Command struct {
	Paths     []string // where Args[0] may be, tried in order
	Args, Env []string
	Dir       string
	MakeDir   bool // make Dir if it is not there
	IDs       spawn.IDs
	// Files become descriptors 0, 1, 2 and so on; nil is the null device.
	Files []*os.File
	// Terminal becomes descriptors 0, 1 and 2, whose Files are nil, and the controlling terminal. The first of what the Process
	// has in Sent are its other end and, once more, this one. Nil: none.
	Terminal *Terminal
	// Written are files of its own, in Mounts that are PerRun.
	Written []WrittenFile
	// Join are cgroup v1 tasks files, opened for writing. The child joins by
	// itself: no thread of the embedder's is ever in the cgroup.
	Join []*os.File
	// Cgroup is a cgroup v2 directory that it is born in, or nil.
	Cgroup  *os.File
	Rlimits []Rlimit
	// Capabilities are those that root may have in the World's user namespace.
	Capabilities CapSet
	// Notify leaves some system calls to a listener, which the Process has in Sent, as the last; nil: none.
	Notify *seccomp.Filter
	// Filter says which system calls it may make; nil: all.
	Filter *seccomp.Filter
	// Init is the program that is PID 1 in place of the command, which then is PID 2
	// (tinyinit.Open); nil: none. It is in none of the command's cgroups.
	Init *os.File
	// Guard is the program of what kills a command without Init when the embedder has ended (tinyinit.OpenGuard); nil: only
	// the kernel does, of which it can rid itself. It is not for StartIn.
	Guard *os.File
	// Boottime and Monotonic shift the clocks of a new time namespace, by
	// seconds (time_namespaces(7)); nil: no time namespace.
	Clock *Clock
}

// Clock are the offsets of a time namespace in seconds.
type Clock struct{ Monotonic, Boottime int64 }

// Start starts c in a PID namespace and a copy of the mount namespace of its own.
// A Close of the World waits for it.
func (w *World) Start(ctx context.Context, c Command) (*Process, error) {
	return w.start(ctx, c, spawn.Start)
}

// StartHere is Start on the caller's thread, as spawn.StartHere.
func (w *World) StartHere(ctx context.Context, c Command) (*Process, error) {
	return w.start(ctx, c, spawn.StartHere)
}

func (w *World) start(ctx context.Context, c Command, start starter) (*Process, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return nil, os.ErrClosed
	}
	if c.Clock != nil && !commandClock.supported() {
		return nil, &Unsupported{What: "a clock of its own for a command", Remedy: "Linux " + commandClock.version + " or newer"}
	}
	var p *Process
	var err error
	if c.Init == nil {
		p, err = w.startFirst(ctx, c, start)
	} else {
		p, err = w.startBehindInit(ctx, c, start)
	}
	if err != nil {
		return nil, outerError("a command in a sandbox", err)
	}
	return p, nil
}

// startFirst starts a command that is PID 1.
func (w *World) startFirst(ctx context.Context, c Command, start starter) (*Process, error) {
	mnt, err := w.mounts.take(ctx)
	if err != nil {
		return nil, err
	}
	s := spawn.Setup{Files: len(c.Files), Cgroup: c.Cgroup, Namespaces: pidNamespace(), Guard: c.Guard}
	p, err := start.patient(ctx, s, func(p *spawn.Program) { w.command(p, c, mnt, false) })
	if err != nil {
		w.mounts.put(mnt)
		return nil, err
	}
	return &Process{Process: p, world: w, mnt: mnt}, nil
}

// pidNamespace is the flag for a first child to be born in a PID namespace, where that is allowed.
func pidNamespace() uint64 {
	if privileged() {
		return unix.CLONE_NEWPID
	}
	return 0
}

// A Process is a command that runs in a World.
type Process struct {
	*spawn.Process
	world *World
	mnt   int // its mount namespace: by holding it we keep its own end from waiting for that to go; -1: another's

	mu     sync.RWMutex // held by StartIn
	closed bool
}

// Close gives back what is held of the process: its pidfd and, in the background, its mount namespace and what is
// left of its init.
func (p *Process) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	if p.mnt < 0 {
		return p.Process.Close()
	}
	if i := p.TakeInit(); i != nil {
		p.world.homes.put(&home{i, p.mnt})
	} else {
		p.world.mounts.put(p.mnt)
	}
	return p.Process.Close()
}

// privileged says whether this program may make a PID namespace outside of a
// World's user namespace, whose /proc then can be mounted inside.
var privileged = sync.OnceValue(func() bool { return os.Geteuid() == 0 && hasCap(unix.CAP_SYS_ADMIN) })

// command adds the calls that turn a child into the command: PID 1 of a PID
// namespace of its own, since the clone or, where the embedder has no privilege,
// as a second child that is made inside, as it always is in the namespace of an init.
//
// beside says that it is started in the namespaces of another command, of which it then sees the mounts.
func (w *World) command(p *spawn.Program, c Command, mnt int, beside bool) {
	stdio := inputs(p, c.Files)
	join := inputs(p, c.Join)
	root := w.terminalRoot(p, &c)
	ownKeyring(p) // while it counts for the embedder: root may have a million (keyrings(7))
	if c.Init == nil && !beside {
		w.enter(p, c.Cgroup, mnt)
		p.Guarded()
	} else {
		w.join(p, c.Cgroup, mnt)
	}
	if !beside {
		w.spec.ownExtra(p, &c)
	}
	for i, f := range join {
		p.Do("write", c.Join[i].Name(), unix.SYS_WRITE, f, "0", 1)
	}
	// After joining: the namespace's root is the cgroup that one is in.
	p.Do("unshare", "cgroup namespace", unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)
	c.clock(p)
	c.inherited(p)
	c.terminal(p, root, stdio)
	c.descriptors(p, stdio)
	c.Capabilities.keep(p)
	if root := w.spec.rootIDs(); c.IDs.UID != root.UID || c.IDs.GID != root.GID || len(c.IDs.Groups) > 0 {
		c.IDs.KeepGroups = root.KeepGroups
		p.SetIDs(c.IDs)
	}
	p.Do("prctl PR_SET_NO_NEW_PRIVS", "", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	w.confine(p, c.Files, stdio)
	// What is left of the embedder's descriptors, and of ours, is not for the
	// command, nor to be found by a Dir like /proc/self/fd/7 (CVE-2024-21626).
	if c.Notify == nil {
		p.CloseFrom(len(c.Files))
	} else {
		p.CloseFromButSend(len(c.Files))
	}
	c.rlimits(p)
	c.chdir(p)
	p.Do("rt_sigprocmask", "", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, p.Words(0), 0, 8)
	var last func()
	if c.Filter != nil || c.Notify != nil {
		last = func() { c.filters(p) }
	}
	p.Exec(c.Paths, c.Args, c.Env, last)
}

// enter adds the calls up to where the child is root in the World's namespaces,
// in mnt, a copy of the World's mount namespace, with its own /proc.
func (w *World) enter(p *spawn.Program, group *os.File, mnt int) {
	ns := w.namespaces(p, mnt)
	var cgroup spawn.Ref
	if !p.Born() {
		cgroup = optional(p, group)
	}
	priority(p)
	if p.Born() {
		// Whoever owns the PID namespace must mount its /proc (proc_init_fs_context in
		// fs/proc/root.c), and that is the embedder. It may not look at a path in
		// there that a command could have put there: /proc and /dev are mounts, which
		// nobody can rename or remove where they are mounted.
		ns.enter(p, fileMnt)
		w.spec.ownProc(p)
	}
	for i := range ns { // as enterAll
		if i != fileMnt || !p.Born() {
			ns.enter(p, i)
		}
	}
	if !p.Born() {
		p.Do("unshare", "PID namespace", unix.SYS_UNSHARE, unix.CLONE_NEWPID) // so that this child knows it, too (ExecInit)
		p.ForkCommand(0, cgroup)
	}
	p.SetIDs(w.spec.rootIDs())
	if !p.Born() {
		w.spec.ownProc(p)
	}
}

// nsRefs are the descriptors of namespaces, in the order of nsNames.
type nsRefs []spawn.Ref

func (ns nsRefs) enter(p *spawn.Program, i int) {
	if i == fileUser {
		p.EnterUserNS(ns[i])
		return
	}
	p.Do("setns", nsNames[i], unix.SYS_SETNS, ns[i], nsKinds[i])
}

// namespaces makes those of the World usable, with mnt in place of its own mount
// namespace.
func (w *World) namespaces(p *spawn.Program, mnt int) (ns nsRefs) {
	for i, f := range w.files {
		switch i {
		case fileMnt:
			ns = append(ns, p.Input(mnt))
		case fileRoot:
		default:
			ns = append(ns, p.Input(int(f.Fd())))
		}
	}
	return ns
}

// enterAll enters all, the user namespace first: it owns the others.
func (ns nsRefs) enterAll(p *spawn.Program) {
	for i := range ns {
		ns.enter(p, i)
	}
}

var (
	nsNames = []string{"user namespace", "mount namespace", "UTS namespace", "IPC namespace", "network namespace"}
	nsKinds = []int{unix.CLONE_NEWUSER, unix.CLONE_NEWNS, unix.CLONE_NEWUTS, unix.CLONE_NEWIPC, unix.CLONE_NEWNET}
)

// inputs makes files usable by the program; a nil file has no Ref of its own.
func inputs(p *spawn.Program, files []*os.File) (refs []spawn.Ref) {
	for _, f := range files {
		refs = append(refs, optional(p, f))
	}
	return refs
}

func optional(p *spawn.Program, f *os.File) spawn.Ref {
	if f == nil {
		return spawn.NoRef
	}
	return p.Input(int(f.Fd()))
}

// descriptors puts the command's files in their places.
func (c *Command) descriptors(p *spawn.Program, files []spawn.Ref) {
	null := spawn.NoRef
	for i, f := range files {
		if f == spawn.NoRef {
			if null == spawn.NoRef {
				null = p.Do("open", "/dev/null", unix.SYS_OPENAT, at, "/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
			}
			f = null
		}
		p.Do("dup3", "", unix.SYS_DUP3, f, i, 0)
	}
}

// filters installs the filters: last, as they are not for our own calls.
func (c *Command) filters(p *spawn.Program) {
	if c.Notify != nil {
		p.Send(install(p, c.Notify))
	}
	if c.Filter != nil {
		install(p, c.Filter)
	}
}

func install(p *spawn.Program, f *seccomp.Filter) spawn.Ref {
	code := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(f.Code))), len(f.Code)*unix.SizeofSockFilter)
	// struct sock_fprog is a 16-bit length and, aligned, an address.
	fprog := p.Words(uintptr(len(f.Code)), p.Bytes(code))
	return p.Do("seccomp", f.Profile, unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(f.Flags), fprog)
}

func (c *Command) chdir(p *spawn.Program) {
	if c.Dir == "/" {
		return // where setns(2) into the mount namespace has put it
	}
	if c.MakeDir {
		for i, r := range c.Dir {
			if r == '/' && i > 0 {
				p.Try("mkdir", c.Dir[:i], unix.SYS_MKDIRAT, at, c.Dir[:i], 0o755)
			}
		}
		p.Try("mkdir", c.Dir, unix.SYS_MKDIRAT, at, c.Dir, 0o755)
	}
	p.Do("chdir", c.Dir, unix.SYS_CHDIR, c.Dir)
}

// clock gives the command a time namespace, which it enters with its exec
// (commandClock).
func (c *Command) clock(p *spawn.Program) {
	if c.Clock == nil {
		return
	}
	p.Do("unshare", "time namespace", unix.SYS_UNSHARE, unix.CLONE_NEWTIME)
	// The file is the machine's root's, out of reach from here, where the embedder
	// is not dumpable (proc_pid(5)); os/exec with a Credential makes it so.
	was := p.Do("prctl PR_GET_DUMPABLE", "", unix.SYS_PRCTL, unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	const path = "/proc/self/timens_offsets"
	text := c.Clock.text()
	written := p.Label()
	for last := 15; last >= 0; last-- { // a child beside this one may take it back at any time: it changes its ids
		p.Do("prctl PR_SET_DUMPABLE", "", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
		again := p.Label()
		fd := p.Do("open", path, unix.SYS_OPENAT, at, path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if last > 0 {
			p.Branch(fd, again, spawn.Next, spawn.Next)
		}
		set := p.Do("write", path, unix.SYS_WRITE, fd, text, len(text))
		p.Branch(set, spawn.Stop, written, written)
		p.Mark(again)
	}
	p.Mark(written)
	done := p.Label()
	set := p.Do("prctl PR_SET_DUMPABLE", "", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, was, 0, 0, 0)
	p.Branch(set, spawn.Next, done, done)
	// It was 2, which only the kernel can set: 0 is the stricter.
	p.Do("prctl PR_SET_DUMPABLE", "", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	p.Mark(done)
}

// LookPath lists where a command of this name may be: the name itself if it
// has a slash, else in each directory of PATH, as execvp(3) has it.
func LookPath(name, pathEnv string) []string {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	var paths []string
	for _, dir := range strings.Split(pathEnv, ":") {
		// An empty element would be the current directory: a trap.
		if path.IsAbs(dir) {
			paths = append(paths, path.Join(dir, name))
		}
	}
	return paths
}
