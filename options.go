package sandbox

import (
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/seed-5a9fb6e0/sandbox/image"
	"github.com/seed-5a9fb6e0/sandbox/netns"
	"github.com/seed-5a9fb6e0/sandbox/rootfs"
)

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

	// Mounts are files and directories in the root besides: of the host's, in memory, or with given contents. Those below
	// others are mounted on these, whatever the order.
	Mounts []rootfs.Mount

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
	// Linux 6.2). Nil: the host's clocks.
	Clock *Clock

	// Limits bound all commands together (Memory, Swap, PIDs, CPUs, CPUSet, IO) or are
	// the default of each (CPUTime, Wall, Output, FileSize, Stack, OpenFiles).
	Limits Limits
	// Security is by default that for hostile commands.
	Security Security
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

// clone copies o so that the caller's changes to it change nothing.
func (o Options) clone() Options {
	o.Labels = maps.Clone(o.Labels)
	o.Env = slices.Clone(o.Env)
	o.Mounts = slices.Clone(o.Mounts)
	o.Limits.IO = slices.Clone(o.Limits.IO)
	o.Security.Devices = slices.Clone(o.Security.Devices)
	if n := o.Security.Notify; n != nil {
		o.Security.Notify = &Notify{slices.Clone(n.Calls), n.Handle}
	}
	if o.Clock != nil {
		c := *o.Clock
		o.Clock = &c
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}
