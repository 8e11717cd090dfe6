package world

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

func (c *Clock) text() string {
	return fmt.Sprintf("monotonic %d 0\nboottime %d 0\n", c.Monotonic, c.Boottime)
}

// An Rlimit is one resource limit (getrlimit(2)).
type Rlimit struct {
	Resource   int
	Soft, Hard uint64
}

// priority undoes what makes the embedder more or less important than others.
// Before the user namespace is entered: only privilege over the whole machine
// gives more than the embedder has (sched(7), proc_pid_oom_score_adj(5)), so
// without it a command stays as unimportant.
func priority(p *spawn.Program) {
	p.Try("setpriority", "", unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, 0)
	if a := oomScoreAdj(); a != 0 {
		path := "/proc/self/oom_score_adj"
		fd := p.Do("open", path, unix.SYS_OPENAT, at, path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		p.Try("write", path, unix.SYS_WRITE, fd, "0", 1)
	}
}

// inherited fixes what a child would else inherit from the embedder, whatever
// that did to itself.
func (c *Command) inherited(p *spawn.Program) {
	p.Do("setsid", "", unix.SYS_SETSID)
	p.Do("umask", "", unix.SYS_UMASK, 0o022)
	p.Do("personality", "", unix.SYS_PERSONALITY, 0)
	p.Do("prctl PR_SET_TIMERSLACK", "", unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, 50_000, 0, 0, 0)
	// All processors: the kernel takes those that the cpuset has.
	p.Do("sched_setaffinity", "", unix.SYS_SCHED_SETAFFINITY, 0, len(everyCPU), everyCPU)
	if policy, _, _ := unix.RawSyscall(unix.SYS_SCHED_GETSCHEDULER, 0, 0, 0); policy != schedOther {
		// This thread's, which the child has from it.
		p.Try("sched_setscheduler", "", unix.SYS_SCHED_SETSCHEDULER, 0, schedOther, p.Words(0))
	}
	// CLONE_CLEAR_SIGHAND resets handlers; what the embedder ignores would stay
	// ignored over exec (signal(7)).
	for _, sig := range ignoredSignals() {
		p.Do("rt_sigaction", sig.String(), unix.SYS_RT_SIGACTION, int(sig), p.Words(0, 0, 0, 0), 0, 8)
	}
}

const schedOther = 0 // SCHED_OTHER (sched(7))

// rlimits comes when no further descriptor is opened: the command may be allowed
// fewer of them than its start takes.
func (c *Command) rlimits(p *spawn.Program) {
	for _, l := range c.Rlimits {
		p.Do("prlimit", rlimitNames[l.Resource], unix.SYS_PRLIMIT64, 0, l.Resource, p.Words(uintptr(l.Soft), uintptr(l.Hard)), 0)
	}
}

var everyCPU = strings.Repeat("\xff", 128)

// oomScoreAdj is the embedder's own, which children inherit. It is read once:
// a service manager sets it before the start.
var oomScoreAdj = sync.OnceValue(func() int {
	b, _ := os.ReadFile("/proc/self/oom_score_adj")
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
})

var rlimitNames = map[int]string{
	unix.RLIMIT_CORE: "RLIMIT_CORE", unix.RLIMIT_CPU: "RLIMIT_CPU", unix.RLIMIT_FSIZE: "RLIMIT_FSIZE",
	unix.RLIMIT_NOFILE: "RLIMIT_NOFILE", unix.RLIMIT_STACK: "RLIMIT_STACK", unix.RLIMIT_MEMLOCK: "RLIMIT_MEMLOCK",
	unix.RLIMIT_NPROC: "RLIMIT_NPROC", unix.RLIMIT_AS: "RLIMIT_AS", unix.RLIMIT_DATA: "RLIMIT_DATA", unix.RLIMIT_RSS: "RLIMIT_RSS",
	rlimitLocks: "RLIMIT_LOCKS", rlimitSigpending: "RLIMIT_SIGPENDING", rlimitMsgqueue: "RLIMIT_MSGQUEUE",
	rlimitNice: "RLIMIT_NICE", rlimitRtprio: "RLIMIT_RTPRIO", rlimitRttime: "RLIMIT_RTTIME",
}

// Resource limits that package unix does not name (asm-generic/resource.h).
const (
	rlimitLocks      = 10
	rlimitSigpending = 11
	rlimitMsgqueue   = 12
	rlimitNice       = 13
	rlimitRtprio     = 14
	rlimitRttime     = 15
)

// defaultRlimits are what every command gets, cut to the embedder's hard
// limits: an unprivileged process can't raise those.
var defaultRlimits = []Rlimit{
	{unix.RLIMIT_CORE, 0, 0},
	{unix.RLIMIT_CPU, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{unix.RLIMIT_FSIZE, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{unix.RLIMIT_DATA, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{unix.RLIMIT_STACK, 8 << 20, unix.RLIM_INFINITY},
	{unix.RLIMIT_RSS, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{unix.RLIMIT_NPROC, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{unix.RLIMIT_NOFILE, 1024, 524288},
	{unix.RLIMIT_MEMLOCK, 8 << 20, 8 << 20},
	{unix.RLIMIT_AS, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{rlimitLocks, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{rlimitSigpending, 8192, 8192}, // also timers; or half of what the embedder has
	{rlimitMsgqueue, 819200, 819200},
	{rlimitNice, 0, 0},
	{rlimitRtprio, 0, 0},
	{rlimitRttime, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
}

// Rlimits returns the limits that a command must be given to have the
// defaults with the wanted ones in their place: those that differ from the
// embedder's. A wanted soft limit above the embedder's hard one is an error.
func Rlimits(wanted []Rlimit) ([]Rlimit, error) {
	var set []Rlimit
	for _, l := range defaultRlimits {
		var own unix.Rlimit
		if err := unix.Getrlimit(l.Resource, &own); err != nil {
			return nil, os.NewSyscallError("getrlimit", err)
		}
		for _, w := range wanted {
			if w.Resource != l.Resource {
				continue
			}
			l = w
			if w.Soft > own.Max && w.Soft != unix.RLIM_INFINITY {
				return nil, &Unsupported{What: fmt.Sprintf("%s of %d", rlimitNames[w.Resource], w.Soft), Why: fmt.Errorf("this program's own hard limit is %d", own.Max), Remedy: "raise it (ulimit -H, LimitNOFILE= and the like of systemd.exec(5))"}
			}
		}
		if l.Resource == rlimitSigpending {
			own := own.Max / 2 // what a user's sandboxes leave him
			l.Soft, l.Hard = min(l.Soft, own), min(l.Hard, own)
		}
		l.Soft, l.Hard = min(l.Soft, own.Max), min(l.Hard, own.Max)
		// Getrlimit shows the soft NOFILE that Go raised for the embedder.
		if (unix.Rlimit{Cur: l.Soft, Max: l.Hard}) != own {
			set = append(set, l)
		}
	}
	return set, nil
}
