package sandbox

import (
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/seed-5a9fb6e0/sandbox/image"
	"github.com/seed-5a9fb6e0/sandbox/netns"
)

// Unlimited lifts a limit that is on by default (Limits.Stack, Limits.OpenFiles).
const Unlimited = -1

// Options say what a Sandbox is. The zero value is the host's own userland,
// read-only, with private empty /tmp, /run and /home, without a network, in
// namespaces of its own, without limits.
type Options struct {
	// Name is unique among the live sandboxes of the Store and of the form
	// [a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}. Empty: one is made up.
	Name string
	// Labels are the caller's own notes, kept in the store's record of the
	// sandbox. At most 64 KiB in all; no secrets.
	Labels map[string]string
	// Store keeps images and the records of live sandboxes. Nil: the default
	// store, /var/lib/sandbox for root, $XDG_DATA_HOME/sandbox for a user.
	Store *Store

	// Image is the reference of an image whose layers are the root file system:
	// "alpine:3.20", "localhost:5000/app@sha256:…", "oci:DIR", "oci-archive:FILE"
	// or "docker-archive:FILE". Its config gives Env, Dir, User and the command.
	Image string
	// Pull says when and how Image is pulled.
	Pull image.PullOptions
	// Rootfs is a directory, an absolute path, that is the lower layer of the
	// root file system instead of an image; it is never written to. With neither,
	// the root is the host's own userland. Both are an error.
	Rootfs string
	// ReadOnly makes the root file system read-only. The host's userland always is.
	ReadOnly bool

	// Env are "KEY=value" pairs over those of the image. Nothing comes from the
	// embedding program.
	Env []string
	// Dir is the working directory, an absolute path. Empty: the image's, else "/".
	Dir string
	// User is "USER", "UID", "USER:GROUP" or "UID:GID", by the sandbox's own
	// /etc/passwd and /etc/group. Empty: the image's, else root.
	User string
	// Hostname is at most 64 bytes (sethostname(2)). Empty: Name.
	Hostname string
	// Clock shifts the sandbox's clocks, in a time namespace (time_namespaces(7),
	// Linux 6.1). Nil: the host's clocks.
	Clock *Clock

	// Limits bound all commands together (Memory, PIDs, CPUs) or are the default
	// of each (Wall, Output, FileSize, Stack, OpenFiles).
	Limits Limits
	// Network is by default a namespace of its own with only lo.
	Network netns.Config
	// Logger is told what the library does and what it could not clean up. Nil: nobody.
	Logger *slog.Logger
}

// A Clock is how far a sandbox's clocks are from the host's. Each is a whole
// number of seconds and may be negative as long as the clock stays positive.
// The real-time clock is always the host's.
type Clock struct {
	Monotonic time.Duration // CLOCK_MONOTONIC
	Boottime  time.Duration // CLOCK_BOOTTIME, which uptime(1) shows
}

// Limits bound resources. 0 is no limit, or for OpenFiles and Stack the
// default. A limit that can't be enforced for this user or on this machine is
// errors.ErrUnsupported with the remedy, never ignored.
type Limits struct {
	// Memory in bytes, page cache included, by a cgroup; without swap. A command
	// that goes over it is killed: Status MemoryLimit.
	Memory int64
	// PIDs is how many processes and threads there may be, by a cgroup. A fork
	// over it fails with EAGAIN: a Hit, no kill.
	PIDs int64
	// CPUs is how much processor time may be used in a time, by a cgroup: 0.5 is
	// half of one processor. At least 0.01.
	CPUs float64
	// Wall is how long a command may run before it is killed: Status WallLimit.
	Wall time.Duration
	// Output is how many bytes a command may write to Stdout and Stderr together
	// before it is killed: Status OutputLimit. The Writers get exactly as many.
	// An *os.File is then copied to. Where there is no Writer, nothing is counted.
	Output int64
	// FileSize in bytes is how long a file may grow by writes (RLIMIT_FSIZE). A
	// write beyond it fails with EFBIG, for PID 1 ignores SIGXFSZ; a child of it
	// dies by the signal.
	FileSize int64
	// Stack in bytes is the size of a process's stack (RLIMIT_STACK). 0: 8 MiB.
	Stack int64
	// OpenFiles is how many descriptors a process may have (RLIMIT_NOFILE). 0:
	// 1,024, which a program may raise itself to at most 524,288.
	OpenFiles int64
}

// merged is l with its zero fields for single commands taken from defaults.
func (l Limits) merged(defaults Limits) Limits {
	if l.Wall == 0 {
		l.Wall = defaults.Wall
	}
	for _, f := range []struct{ to, from *int64 }{
		{&l.Output, &defaults.Output}, {&l.FileSize, &defaults.FileSize}, {&l.Stack, &defaults.Stack}, {&l.OpenFiles, &defaults.OpenFiles},
	} {
		if *f.to == 0 {
			*f.to = *f.from
		}
	}
	return l
}

// clone copies o so that the caller's changes to it change nothing.
func (o Options) clone() Options {
	o.Labels = maps.Clone(o.Labels)
	o.Env = slices.Clone(o.Env)
	if o.Clock != nil {
		c := *o.Clock
		o.Clock = &c
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}
