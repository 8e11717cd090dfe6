package sandbox

import (
	"errors"
	"io/fs"
	"slices"

	"github.com/seed-5a9fb6e0/sandbox/image"
	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
	"github.com/seed-5a9fb6e0/sandbox/internal/world"
	"github.com/seed-5a9fb6e0/sandbox/netns"
)

// describe makes the Error of an operation, with the step that failed.
func describe(op, name string, err error) error {
	e := &Error{Op: op, Sandbox: name, Err: err}
	var step *spawn.Error
	var exec *spawn.ExecError
	var unsupported *world.Unsupported
	var path *fs.PathError
	switch {
	case errors.As(err, &unsupported): // its text has all of it
	case errors.As(err, &exec):
		e.Path = exec.Path
	case errors.As(err, &step) && step.Errno != 0 && err == error(step):
		e.Stage, e.Path, e.Err = step.Op, step.Path, step.Errno
	case errors.As(err, &path) && err == error(path):
		e.Stage, e.Path, e.Err = path.Op, path.Path, path.Err
	}
	return e
}

// config is what the image says, nothing without one.
func (b *box) config() image.Config {
	if b.image == nil {
		return image.Config{}
	}
	return b.image.Config
}

// applied says what holds the command.
func (p *process) applied() *Applied {
	a := p.box.held
	a.Namespaces, a.Capabilities, a.Devices = slices.Clone(a.Namespaces), slices.Clone(a.Capabilities), slices.Clone(a.Devices)
	a.Notify = slices.Clone(a.Notify)
	a.Init = p.cmd.Init || p.cmd.idle
	if p.leaf != nil {
		a.Cgroup = string(p.box.store.tree().Mode()) + " " + p.leaf.Controllers().String()
	}
	return &a
}

// applied says what holds every command of the sandbox.
func (b *box) applied() Applied {
	a := Applied{
		UIDs: world.MapText(b.user.ids.UIDs), GIDs: world.MapText(b.user.ids.GIDs),
		Namespaces:   []string{"user", "mnt", "pid", "uts", "ipc", "cgroup"},
		Root:         "host userland",
		Capabilities: b.caps.Names(),
		Devices:      b.opts.Security.Devices,
		Nesting:      b.opts.Security.Nesting,
		HidePID:      b.opts.Security.HidePID,
		NoNewPrivs:   true,
	}
	if n := b.opts.Security.Notify; n != nil {
		a.Notify = n.Calls
	}
	if !a.Nesting {
		a.Landlock = world.Landlock()
	}
	if b.filter != nil {
		a.Seccomp = b.filter.String()
	}
	if b.opts.Network.Mode != netns.Host {
		a.Namespaces = append(a.Namespaces, "net")
	}
	if b.opts.Clock != nil {
		a.Namespaces = append(a.Namespaces, "time")
	}
	if b.layers() != nil {
		a.Root = "overlay"
		if b.opts.ReadOnly {
			a.Root = "overlay, read-only"
		}
	}
	switch disk := b.opts.Limits.Disk; {
	case disk > memoryDisk && b.changes != nil:
		a.Root += ", changes in a file"
	case disk > 0:
		a.Root += ", changes in memory"
	}
	return a
}
