package sandbox

// Security says how closely a sandbox is held. The zero value is the default for hostile commands.
type Security struct {
	// Seccomp says which system calls the commands may make (seccomp(2)):
	//
	//	""        the default: Docker's profile, without what hardly a program uses and hostile ones do
	//	"strict"  for programs that compute, as a judge runs them: also no other processes' memory, no
	//	          sockets but of AF_UNIX, no System V or POSIX queues, no watches, no prctl that clears PR_SET_PDEATHSIG
	//	"docker"  Docker's profile as it is (github.com/moby/profiles). 32-bit programs need it, and it leaves them
	//	          socketcall(2), with which they reach all kinds of sockets
	//	"off"     all
	//	"{…}"     one's own: the "seccomp" object of the OCI runtime spec as JSON (config-linux.md), or a file of
	//	          Docker's form. SCMP_ACT_NOTIFY is an error: Notify says what it would need.
	//
	// A call that is refused fails with EPERM, one that this version does not know and clone3 with ENOSYS, as on a
	// kernel without it; a call of another architecture (int 0x80, x32) ends the process with SIGSYS. A filter needs
	// amd64 or arm64. Applied.Seccomp says which one was installed.
	Seccomp string
	// Capabilities are what root of the sandbox may have within the sandbox's user namespace
	// (capabilities(7)), where they reach no further than its own files, processes and network:
	//
	//	""      enough for an entrypoint that changes owners and drops to a user: CAP_CHOWN, CAP_DAC_OVERRIDE,
	//	        CAP_FOWNER, CAP_FSETID, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT
	//	"none"  for programs that compute
	//	"CAP_CHOWN,CAP_NET_ADMIN,…"  just these; CAP_SYS_ADMIN can't be had
	//
	// Each opens code of the kernel's to a hostile command that else is closed: above all CAP_NET_ADMIN and CAP_NET_RAW.
	Capabilities string
	// Devices are character devices of the host's that the sandbox has besides null, zero, full, random, urandom and
	// tty: paths below /dev, as "/dev/fuse", "/dev/kvm" or "/dev/net/tun". Root's embedding program makes files of its own
	// for them, which every user of the sandbox may read and write; an ordinary user's gives the host's, with the rights
	// that he has. Each is as much of the kernel, and maybe of the machine's memory, as its driver makes of it.
	Devices []string
	// Nesting allows sandboxes inside the sandbox, as a CI job makes them: by a program that uses this package, which is
	// there as in an ordinary user's sandbox with a single id, by bubblewrap or unshare(1). It costs what SECURITY.md
	// says: a command may make user namespaces, in which it has all capabilities over its own mounts and networks, and so
	// reaches much more of the kernel; no Landlock holds it; and /proc is without masks. Set-user-ID programs like
	// newuidmap have no effect inside. The default of Capabilities then has CAP_SETFCAP besides, without which root can't
	// map himself (a list has to name it). It can't be had with "strict".
	Nesting bool
	// HidePID hides the processes of other users in /proc, from root of the sandbox as well unless it has CAP_SYS_PTRACE
	// (proc(5), hidepid=invisible): for commands that run programs of several users. Those of other commands of the
	// sandbox are never there.
	HidePID bool
	// Notify leaves some system calls to a function of the embedding program; nil: none.
	Notify *Notify
	// Require is asked before each command with what is about to be applied to it; an error of its own is that of the
	// start, which then makes nothing. For guards that a kernel may lack or a user may not have:
	//
	//	Require: func(a *sandbox.Applied) error {
	//		if a.Landlock < 2 {
	//			return errors.New("no Landlock")
	//		}
	//		return nil
	//	}
	//
	// It may be called at the same time by several goroutines.
	Require func(*Applied) error
}
