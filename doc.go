// Package sandbox is os/exec for containers: it runs a command in a full Linux
// sandbox from inside a Go program.
//
//	sb := sandbox.New(sandbox.Options{})
//	defer sb.Close()
//	out, err := sb.Output(ctx, sandbox.Command("sh", "-c", "echo $$; hostname"))
//
//	res, err := sandbox.Run(ctx, sandbox.Options{
//		Image:  "alpine:3.20",
//		Limits: sandbox.Limits{Memory: 64 << 20, PIDs: 32, Wall: 2 * time.Second},
//	}, sandbox.Command("./tests"))
//	if res.Status == sandbox.MemoryLimit { … }
//
// There is no daemon, no helper binary, no re-execution of the embedding
// program, no init hook and no cgo. Root is not needed where the kernel does
// without.
//
// # Model
//
// A Sandbox is a set of namespaces, mounts and limits. New does no work; the
// first use builds it, once for all callers, and Close takes it down. Between
// commands no process lives in it: it is held by descriptors.
//
// Every Run or Start of a Cmd makes a new process tree: the command is PID 1 of
// its own PID namespace, with its own copy of the mount namespace, its own /proc
// and its own cgroup. The tree ends with it, whatever its descendants do.
// Commands may run at the same time; they share the sandbox's files, IPC objects
// and network. Commands that must not meet get a Sandbox each.
//
// PID 1 is special (pid_namespaces(7)): it gets only those signals that it has a
// handler for, and becomes the parent of orphans. Where that matters, Cmd.Init puts
// a tiny PID 1 in front: a program of some hundred bytes that does nothing.
//
//	what the command does or gets     as PID 1 (Docker's way)    with Cmd.Init
//	abort()                           SIGSEGV                    SIGABRT
//	SIGKILL, SIGTERM, … to itself     nothing                    ends by it
//	SIGSTOP to itself                 nothing                    stops
//	a write beyond Limits.FileSize    EFBIG                      SIGXFSZ: FileSizeLimit
//	a fault: SIGSEGV, SIGFPE, …       ends by it                 ends by it
//	Process.Signal without a handler  SIGKILL and SIGSTOP only   what signal(7) says
//	orphans                           its children, to reap      reaped by the kernel
//	its own number, its parent's      1, 0                       2, 0
//	can't be executed                 the same error             the same error
//	ends                              with all descendants       with all descendants
//
// The init is in none of the command's cgroups and rlimits, and counts for none of
// Usage. The command can neither signal nor trace it. A sandbox whose commands come one
// after the other makes inits ahead, at most eight, and ends those that nobody came for
// within 0.3 s: a command then starts no later than without one. Run returns when the init
// has ended, too, unless the command's cgroup shows that it made no other process.
//
// # What the zero Options give
//
// The host's own /usr with what programs need of /etc, read-only, as nobody's
// files: root of the sandbox can read what everybody can; and private empty /tmp,
// /run and /home. (Where the embedder is root, all but those is one tree of
// mounts, made once for all sandboxes of a Store.) Nothing of the host's /home,
// /root, /var, /run or /tmp. A network namespace with only lo. User, mount, PID,
// UTS, IPC and cgroup namespaces. Root of the sandbox is, outside, an id that
// nobody else has: as root a block of 65,536 ids of its own, as a user the
// caller's id, and his subordinate ids where newuidmap(1) and newgidmap(1) are
// installed. Of the capabilities only those of Applied.Capabilities, within the
// user namespace; no_new_privs; no further user namespaces; a system call filter,
// Docker's without what hostile programs like and others don't need
// (Security.Seccomp); a minimal /dev; /proc with the OCI runtimes' masks; /sys
// read-only. Limits are off.
//
// # Contracts
//
//   - Result and error. The Result is not nil exactly when the program was
//     executed. (A memory limit that leaves no room for the exec counts as
//     executed: Status MemoryLimit.) The error is not nil when the sandbox, a
//     Reader or Writer, WaitDelay or the context failed; it wraps context.Cause.
//     A program that ended by itself before it was killed reports its own status.
//     A command that isn't found is an error.
//   - Contexts. Run's bounds everything, Start's only the start, Wait's only the
//     wait. None may be nil, as in the standard library.
//   - Limits combine. Memory, Swap, PIDs, CPUs, CPUSet and IO of Options bound all
//     commands of the sandbox together, those of Cmd each one; the tighter holds.
//     CPUTime, Wall, Output, FileSize, Stack and OpenFiles of Options are the defaults
//     of each Cmd. What can't be enforced is errors.ErrUnsupported, never ignored.
//   - Verdicts. Status says how a command ended, Hit every limit that it touched and
//     whose that was; ExitCode, Signal and Usage are the command's own all the same.
//     They come from the kernel's counters, not from a guess at SIGKILL. When the kernel
//     kills a process for memory, be it a grandchild, the rest of the tree is killed and
//     the Status is MemoryLimit, or HostOOM where no limit of ours had run out.
//   - Environment: PATH, HOME and USER, with a terminal TERM, then the image's, Options.Env and Cmd.Env,
//     merged by key. Nothing comes from the embedder. Descriptors, resource
//     limits, umask, priority, affinity and ignored signals do not, either.
//   - Errors are *Error; validation returns all faults at once, each a
//     *FieldError, before anything is made. Unsupported says what is missing.
//   - Concurrency. All methods of Sandbox, Process and Store may be called
//     concurrently. Close during Run gives Killed and os.ErrClosed.
//   - Dial and Listen resolve addresses in the sandbox, never by the embedder's
//     resolver. Close closes Listeners; Conns belong to the caller.
//   - Process.Start starts a command beside a running one, in its PID and mount
//     namespaces. Commands that live there see it from its birth, and reach neither
//     memory, descriptors nor arguments of the embedder by it.
//   - Cmd.TTY gives a command a terminal of the sandbox's own. Whatever is done with it inside, our end neither hangs nor
//     outlives the command by more than what that had written.
//   - Cmd.Log keeps what a command writes in rotating files of the store, out of the reach of commands; Process.Logs reads and
//     follows it. Neither who reads slowly nor a full disk holds the command up.
//   - Root gives files of a running sandbox in and out. Commands that rename and link
//     meanwhile neither lead it out of their root nor keep it waiting.
//   - Nothing is silent: what was asked for and can't be had is an error; what was
//     done is in Result.Applied.
//
// # Guarantees
//
// When the embedding program ends, by SIGKILL too, or replaces itself by execve(2), its
// sandboxes' processes are killed, and the next Open of the store removes what else they
// left. The kernel does it and, for commands that are PID 1 and can lose their
// PR_SET_PDEATHSIG, the guard: one process for the whole program, of a thousand bytes,
// from the first of those commands on. It is a child of the program; should somebody kill it,
// only commands that are started later have another one. With the filters "docker" and "off"
// a command of that kind whose exit its child traces (PTRACE_O_TRACEEXIT) stays.
// No descriptor, signal, exit or memory of the embedder is touched by a command.
// Close leaves nothing: no process, mount, cgroup, descriptor or file.
//
// # Not guaranteed, yet
//
// The private file systems are bounded by half of the machine's memory each, as
// tmpfs is, unless Limits.Memory or Limits.Disk does. Bridges are to come. On
// cgroup v1 the scope of a memory kill is
// that of the innermost limit that was touched at all, and page cache touches a
// limit, too. Where the kernel has no Landlock (Applied.Landlock is 0; before
// 5.19, or lsm= without it) a hostile image can have the embedding program's own
// file executed inside, by a link to /proc/self/exe, and as a user with one id
// even change its mode. Where Security.Seccomp allows leases on programs
// (fcntl(2): "docker", "off"), commands that hold one delay starts in other
// sandboxes of the program, at most for Limits.Wall and a second; locks on shared
// files (flock(2)), as /dev/null, are seen by all. A program that asks to be
// traced may not end by itself without a Limits.Wall. SECURITY.md has what else a review found and is open.
// The kernel is the boundary; a bug in it is one here.
//
// # Privileges and kernels
//
// Linux 5.10 or newer, amd64 or arm64. As root: CAP_SYS_ADMIN, CAP_SETUID,
// CAP_SETGID and CAP_CHOWN; id mapping of files needs 5.12, of overlay layers
// 5.19. As a user: user namespaces (user.max_user_namespaces; on Ubuntu an
// AppArmor profile), images 5.11. Limits of memory, processes and processors
// need a cgroup: root, or a delegation. A user without subordinate ids has one
// id in the sandbox. On other systems every use is errors.ErrUnsupported.
package sandbox
