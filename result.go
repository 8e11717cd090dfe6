package sandbox

import (
	"fmt"
	"syscall"
	"time"
)

// Status says how a command ended.
type Status int

const (
	// Lost: it ended, but another wait of the embedding program took its status.
	Lost Status = iota
	// Exited: by itself, with Result.ExitCode.
	Exited
	// Signaled: by Result.Signal, from inside or by Process.Signal.
	Signaled
	// Killed by Process.Kill or by Sandbox.Close.
	Killed
	// Canceled: killed because Run's context ended.
	Canceled
	// MemoryLimit: Limits.Memory of the command or its sandbox ran out, and the kernel
	// killed one of its processes; the others are killed then. ExitCode and Signal are
	// nevertheless the command's own.
	MemoryLimit
	// HostOOM: the same because the machine, or a cgroup above the sandbox's, ran out
	// of memory.
	HostOOM
	// WallLimit: killed after Limits.Wall.
	WallLimit
	// OutputLimit: killed after more than Limits.Output bytes.
	OutputLimit
	// CPULimit: killed after Limits.CPUTime.
	CPULimit
	// FileSizeLimit: ended by SIGXFSZ, with a Limits.FileSize. (A command may send
	// itself that signal, too.) Not so for a command that
	// is PID 1, or handles the signal: its write fails with EFBIG.
	FileSizeLimit
	// PIDsLimit is only the Status of a Hit: forks failed.
	PIDsLimit
	// CPUThrottled is only the Status of a Hit: Limits.CPUs slowed the command down.
	CPUThrottled
)

var statusNames = [...]string{"status lost", "exited", "signaled", "killed", "canceled", "memory limit", "out of memory on the host", "wall limit", "output limit", "cpu time limit", "file size limit", "pids limit", "cpu throttled"}

// String returns the status in words.
func (s Status) String() string {
	if s < 0 || int(s) >= len(statusNames) {
		return fmt.Sprintf("Status(%d)", int(s))
	}
	return statusNames[s]
}

// Scope says whose limit was touched.
type Scope int

// The scopes of a Hit: the command's own Limits, the sandbox's Options.Limits,
// or the host's.
const (
	ScopeCmd Scope = iota
	ScopeSandbox
	ScopeHost
)

// String returns the scope in one word.
func (s Scope) String() string {
	switch s {
	case ScopeCmd:
		return "command"
	case ScopeSandbox:
		return "sandbox"
	case ScopeHost:
		return "host"
	}
	return fmt.Sprintf("Scope(%d)", int(s))
}

// A Hit is a limit that a command ran into, whether or not that ended it.
type Hit struct {
	// Status says which: MemoryLimit, HostOOM, CPULimit, WallLimit, OutputLimit,
	// FileSizeLimit, PIDsLimit or CPUThrottled.
	Status Status
	// Scope says whose. That of memory is told by each cgroup's own counters: on v2 by
	// which one was out of memory, on v1 by which one's limit was touched at all.
	Scope Scope
}

// Source says how a figure of Usage was measured.
type Source int

const (
	// NotMeasured: the figure is 0 because nothing here could tell it.
	NotMeasured Source = iota
	// FromCgroup: by the command's own cgroup, all its processes included.
	FromCgroup
	// FromRusage: by wait4(2): PID 1 and those children that it waited for.
	FromRusage
	// FromClock: by the embedder's monotonic clock.
	FromClock
	// FromPipe: by what was read from the command's streams.
	FromPipe
)

// String returns the source in one word.
func (s Source) String() string {
	switch s {
	case NotMeasured:
		return "unknown"
	case FromCgroup:
		return "cgroup"
	case FromRusage:
		return "rusage"
	case FromClock:
		return "clock"
	case FromPipe:
		return "pipe"
	}
	return fmt.Sprintf("Source(%d)", int(s))
}

// Usage is what a command used, with all its descendants. Each figure has a
// Source; one that was not measured is 0 and NotMeasured. A command has a cgroup
// when it or its sandbox has a limit that needs one (Memory, Swap, PIDs, CPUs, CPUSet,
// IO, CPUTime); without one there is no figure of memory and processes.
type Usage struct {
	Wall       time.Duration // from the exec to the end
	WallSource Source        // of Wall

	User, System time.Duration // processor time
	CPUSource    Source        // of User and System

	// MemoryPeak in bytes is all that the cgroup was charged with: memory of processes,
	// their page tables and sockets, tmpfs, and the page cache of files that they were the
	// first to touch, up to the limit.
	MemoryPeak   int64
	MemorySource Source // of MemoryPeak

	PIDsPeak   int64  // processes and threads at once
	PIDsSource Source // of PIDsPeak

	// ReadBytes and WriteBytes are what disks were asked for, the page cache not
	// counted; measured with a limit of IO.
	ReadBytes, WriteBytes int64
	IOSource              Source // of ReadBytes and WriteBytes

	Output       int64  // bytes written to Stdout and Stderr; counted with a limit of Output
	OutputSource Source // of Output
}

// Applied says what a command was really held by.
type Applied struct {
	// UIDs and GIDs are the id maps of its user namespace, as /proc/PID/uid_map
	// shows them: "inside outside count" a line.
	UIDs, GIDs string
	// Namespaces are those that are the sandbox's own: "user", "mnt", "pid", …
	Namespaces []string
	// Cgroup names the controllers of the command's cgroup and their version,
	// as "v1 memory,pids,cpuacct"; empty: it has none.
	Cgroup string
	// Init: a tiny PID 1 was in front of it (Cmd.Init).
	Init bool
	// Root is the kind of root file system: "host userland", "overlay" or "overlay, read-only"; with Limits.Disk and
	// ", changes in memory" or ", changes in a file".
	Root string
	// Capabilities are those that root of the sandbox may have, within its user namespace.
	Capabilities []string
	// Landlock is the ABI of what else confines the command (landlock(7)), 0: nothing does. From 2 on (Linux 5.19) what it
	// executes lies below the sandbox's "/" or was given to it, and where not all of the root is writable, also what it
	// changes in a writable place; from 6 on (6.12), where the network is the host's, its abstract sockets are out of
	// reach.
	Landlock int
	// Seccomp is the profile of the system call filter and the hash of its program,
	// as "default sha256:…"; empty: there is none.
	Seccomp string
	// Notify are the system calls that are left to Security.Notify.
	Notify []string
	// Devices are those of Security.Devices.
	Devices []string
	// Nesting: sandboxes can be made inside.
	Nesting bool
	// HidePID: other users' processes are not in /proc.
	HidePID bool
	// NoNewPrivs: set-user-ID programs and file capabilities have no effect.
	NoNewPrivs bool
}

// A Result says how a command ended and what it used.
type Result struct {
	// Status says how it ended.
	Status Status
	// ExitCode is what the command exited with, 128+n when signal n ended it, -1 when it is lost.
	ExitCode int
	// Signal is what ended it, 0 if none did.
	Signal syscall.Signal
	// Hit are all limits that it ran into, also those that don't kill.
	Hit []Hit
	// Usage is what it used.
	Usage Usage
	// Applied is what was enforced.
	Applied *Applied
}

// Err is nil when the command exited with 0, else an *ExitError.
func (r *Result) Err() error {
	if r.Status == Exited && r.ExitCode == 0 {
		return nil
	}
	return &ExitError{Result: r}
}

// String says how the command ended in a few words.
func (r *Result) String() string {
	switch r.Status {
	case Exited:
		return fmt.Sprintf("exit status %d", r.ExitCode)
	case Signaled:
		return "signal: " + r.Signal.String()
	}
	return r.Status.String()
}
