package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-5a9fb6e0/sandbox/netns"
)

// A Report says what a machine can do for sandboxes, and what to do about what it can't.
type Report struct {
	// Features are what was tried. The first is the zero Options: without it there is nothing.
	Features []Feature
	// Applied is what holds a command of the zero Options; nil if it can't be had.
	Applied *Applied
}

// A Feature is an option or a guard that was tried.
type Feature struct {
	// Name is the option's: "Options.Clock", "Limits.Memory"; or a guard's: "Landlock".
	Name string
	// Err is nil when it can be had. Else it says why not, and with errors.ErrUnsupported what to do about it.
	Err error
}

// Err is that of the zero Options: nil says that sandboxes work here, though maybe not with all options.
func (r *Report) Err() error { return r.Features[0].Err }

// String has a line for each feature.
func (r *Report) String() string {
	var b strings.Builder
	for _, f := range r.Features {
		if f.Err != nil {
			fmt.Fprintf(&b, "no   %s: %v\n", f.Name, f.Err)
		} else {
			fmt.Fprintf(&b, "yes  %s\n", f.Name)
		}
	}
	return b.String()
}

// A trial is a sandbox that has one feature.
type trial struct {
	name string
	o    Options
	c    Cmd
}

// trials are made with dir as an empty root file system.
func trials(dir string) []trial {
	all := []trial{
		{name: "Options"},
		{name: "Options.Rootfs", o: Options{Rootfs: dir}},
		{name: "Options.Rootfs with Limits.Disk", o: Options{Rootfs: dir, Limits: Limits{Disk: 1 << 20}}},
		{name: "Options.Clock", o: Options{Clock: &Clock{Boottime: time.Hour}}},
		{name: "Options.Network: Host", o: Options{Network: netns.Config{Mode: netns.Host}}},
		{name: "Cmd.User", c: Cmd{User: "1"}},
		{name: "Cmd.Init", c: Cmd{Init: true}},
	}
	for _, l := range []struct {
		name string
		l    Limits
	}{
		{"Memory", Limits{Memory: 64 << 20}},
		{"Swap", Limits{Memory: 64 << 20, Swap: 64 << 20}},
		{"PIDs", Limits{PIDs: 16}},
		{"CPUs", Limits{CPUs: 1}},
		{"CPUSet", Limits{CPUSet: "0"}},
		{"CPUTime", Limits{CPUTime: time.Minute}},
	} {
		all = append(all, trial{name: "Limits." + l.name, c: Cmd{Limits: l.l}})
	}
	return all
}

// Check tries what sandboxes can be given on this machine, as this user. It makes a sandbox for each feature, in a
// store of its own in the directory for temporary files, and leaves nothing of them; that takes a tenth of a second.
// What remains to be tried when ctx ends has its cause.
func Check(ctx context.Context) *Report {
	r := &Report{}
	dir, err := os.MkdirTemp("", "sandbox-check-")
	if err == nil {
		err = r.try(ctx, dir)
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if err != nil {
		r.Features = append([]Feature{{"Options.Store", err}}, r.Features...)
	}
	return r
}

// try fills the report. Its error is that of the store.
func (r *Report) try(ctx context.Context, dir string) error {
	s, err := Open(filepath.Join(dir, "store"))
	if err != nil {
		return err
	}
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return errors.Join(err, s.Close())
	}
	for i, t := range trials(root) {
		applied, err := t.run(ctx, s)
		r.Features = append(r.Features, Feature{t.name, err})
		if i == 0 {
			r.Applied = applied
		}
	}
	if r.Applied != nil {
		r.Features = append(r.Features, landlockFeatures(r.Applied.Landlock)...)
	}
	return s.Close()
}

// run says what the command of the trial was held by.
func (t trial) run(ctx context.Context, s *Store) (held *Applied, err error) {
	t.o.Store = s
	t.o.Security.Require = func(a *Applied) error { held = a; return nil }
	t.c.Args = []string{"true"}
	_, err = Run(ctx, t.o, &t.c)
	if held != nil && errors.Is(err, exec.ErrNotFound) {
		err = nil // as in an empty root; all else was there
	}
	return held, err
}
