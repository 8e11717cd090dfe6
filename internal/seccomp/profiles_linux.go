package seccomp

import (
	"fmt"

	moby "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Docker is the profile of Docker (github.com/moby/profiles) for a process with
// the capabilities caps: with 32-bit programs and those of x32.
func Docker(caps []string) (*Profile, error) {
	raw, err := moby.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}})
	if err != nil {
		return nil, err
	}
	p, err := fromOCI(raw)
	if err != nil {
		return nil, fmt.Errorf("BUG(sandbox): Docker's profile: %w", err)
	}
	p.Name = "docker"
	return p, nil
}

// Default is Docker's profile without what hardly a program of today uses and
// hostile ones like to.
func Default(caps []string) (*Profile, error) {
	p, err := Docker(caps)
	if err != nil {
		return nil, err
	}
	p.Name, p.archs = "default", nil
	p.refuse(
		"fanotify_mark",    // of no use without fanotify_init
		"memfd_secret",     // memory that can't be swapped out
		"modify_ldt",       // segments: 16-bit programs
		"remap_file_pages", // replaced by mmap
	)
	p.allowValues("socket", unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK)
	p.allowValues("socketpair", unix.AF_UNIX)
	// Each takes an int or unsigned int.
	p.refuseValues("ioctl", 1, unix.TIOCSTI, unix.TIOCLINUX) // types into a terminal, pastes into one
	p.refuseValues("fcntl", 1, unix.F_SETLEASE)              // makes whoever opens the file wait
	p.refuseExitTraces()
	return p, p.sort()
}

// Strict is for programs that compute: Default without what a solution of a
// contest's problem has no need of.
func Strict(caps []string) (*Profile, error) {
	p, err := Default(caps)
	if err != nil {
		return nil, err
	}
	p.Name = "strict"
	p.refuse(
		"ptrace", "process_vm_readv", "process_vm_writev", "process_mrelease", // other processes
		"chroot", "statmount", "listmount", "name_to_handle_at", // mounts
		"adjtimex", "clock_adjtime", "ioprio_set", // the machine's clock and disks
		"io_setup", "io_submit", "io_cancel", "io_destroy", "io_getevents", "io_pgetevents", // asynchronous I/O
		"inotify_init", "inotify_init1", "inotify_add_watch", "inotify_rm_watch", // watches are the kernel's memory
		"mq_open", "mq_unlink", "mq_timedsend", "mq_timedreceive", "mq_notify", "mq_getsetattr",
		"msgget", "msgsnd", "msgrcv", "msgctl", "semget", "semop", "semtimedop", "semctl",
		"shmget", "shmat", "shmdt", "shmctl",
		"seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self",
		"vmsplice",                                                              // a pipe whose pages are still the program's
		"cachestat",                                                             // what others read of shared files
		"epoll_ctl_old", "epoll_wait_old", "set_thread_area", "get_thread_area", // of no use on 64 bits
	)
	p.allowValues("socket", unix.AF_UNIX)
	p.allowValues("personality", 0xffffffff) // ask for it
	// PR_SET_PDEATHSIG: a PID 1 that clears it outlives the embedding program.
	p.refuseValues("prctl", 0, unix.PR_SET_PDEATHSIG, unix.PR_SET_SECCOMP)
	// They make the machine write out everybody's files; a program that asks for it is told that it was done.
	p.set("sync", rule{action: errno(0)})
	p.set("syncfs", rule{action: errno(0)})
	return p, p.sort()
}

// Nest allows what makes a sandbox within the sandbox: namespaces and mounts, and the
// names of hosts.
func (p *Profile) Nest() error {
	p.Name += ", nesting"
	return p.Allow("clone", "clone3", "unshare", "setns", "mount", "umount2", "pivot_root", "chroot",
		"open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "sethostname", "setdomainname")
}

func (p *Profile) set(name string, rules ...rule) {
	if !known(name) {
		panic("BUG(sandbox): no system call " + name)
	}
	p.rules[name] = rules
}

// refuse takes back what is allowed.
func (p *Profile) refuse(names ...string) {
	for _, name := range names {
		p.set(name)
	}
}

// refuseExitTraces refuses PTRACE_O_TRACEEXIT. A process that has its end traced stops in it, though it was killed, until its
// tracer goes on or ends; of two that trace each other so neither can be killed by anybody.
func (p *Profile) refuseExitTraces() {
	const oldSetOptions = 21 // PTRACE_OLDSETOPTIONS, where there is one
	var rules []rule
	for _, request := range []uint64{unix.PTRACE_SEIZE, unix.PTRACE_SETOPTIONS, oldSetOptions} {
		rules = append(rules, rule{[]condition{
			{0, specs.OpMaskedEqual, 0xffff_ffff, request},
			{3, specs.OpMaskedEqual, unix.PTRACE_O_TRACEEXIT, unix.PTRACE_O_TRACEEXIT},
		}, errno(unix.EPERM)})
	}
	p.set("ptrace", append(rules, rule{[]condition{{op: specs.OpGreaterEqual}}, allow})...)
}

// allowValues allows some values of the first argument. Each is exact: the upper
// half of an int, which the kernel ignores, must be 0.
func (p *Profile) allowValues(name string, values ...uint64) {
	var rules []rule
	for _, v := range values {
		rules = append(rules, rule{[]condition{{op: specs.OpEqualTo, value: v}}, allow})
	}
	p.set(name, rules...)
}

// refuseValues refuses some values of a 32-bit argument, with EPERM, and allows
// all others.
func (p *Profile) refuseValues(name string, index uint, values ...uint64) {
	var rules []rule
	for _, v := range values {
		rules = append(rules, rule{[]condition{{index, specs.OpMaskedEqual, 0xffff_ffff, v}}, errno(unix.EPERM)})
	}
	// Always true: a rule without a condition would be the only one.
	always := condition{index: index, op: specs.OpGreaterEqual}
	p.set(name, append(rules, rule{[]condition{always}, allow})...)
}
