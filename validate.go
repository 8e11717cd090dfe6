package sandbox

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/seed-5a9fb6e0/sandbox/image"
	"github.com/seed-5a9fb6e0/sandbox/internal/store"
)

// faults collects everything that is wrong with an Options or a Cmd.
type faults struct {
	prefix string
	errs   []error
}

func (f *faults) add(field string, value any, reason string) {
	f.errs = append(f.errs, &FieldError{f.prefix + field, value, reason})
}

func (f *faults) check(bad bool, field string, value any, reason string) {
	if bad {
		f.add(field, value, reason)
	}
}

// Limits of the kernel's on arguments (execve(2)) and names.
const (
	maxArg      = 128 << 10 // MAX_ARG_STRLEN
	maxArgs     = 6 << 20   // three quarters of a stack of 8 MiB: what execve allows in all
	maxHostname = 64
	pathMax     = 4096
)

// validate returns all faults of o at once.
func (o *Options) validate() error {
	f := &faults{prefix: "Options."}
	if o.Name != "" {
		f.check(store.CheckName(o.Name) != nil, "Name", o.Name, "not of the form [a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
	}
	o.validateRoot(f)
	f.env(o.Env)
	f.dir(o.Dir)
	f.user(o.User)
	f.check(len(o.Hostname) > maxHostname, "Hostname", o.Hostname, "longer than 64 bytes (sethostname(2))")
	f.check(strings.ContainsAny(o.Hostname, "\x00\n\r\t /"), "Hostname", o.Hostname, "has a character that no hostname has")
	if c := o.Clock; c != nil {
		f.check(c.Monotonic%time.Second != 0, "Clock.Monotonic", c.Monotonic, "not a whole number of seconds")
		f.check(c.Boottime%time.Second != 0, "Clock.Boottime", c.Boottime, "not a whole number of seconds")
	}
	f.limits(o.Limits)
	if err := o.Network.Validate(); err != nil {
		f.add("Network", nil, err.Error())
	}
	return errors.Join(f.errs...)
}

func (o *Options) validateRoot(f *faults) {
	f.check(o.Image != "" && o.Rootfs != "", "Rootfs", o.Rootfs, "a second source of the root beside Image")
	if o.Image != "" {
		if _, err := image.ParseReference(o.Image); err != nil {
			f.add("Image", o.Image, err.Error())
		}
	}
	if o.Rootfs == "" {
		return
	}
	if !filepath.IsAbs(o.Rootfs) {
		f.add("Rootfs", o.Rootfs, "not an absolute path")
		return
	}
	info, err := os.Stat(o.Rootfs)
	switch {
	case err != nil:
		f.add("Rootfs", o.Rootfs, errors.Unwrap(err).Error())
	case !info.IsDir():
		f.add("Rootfs", o.Rootfs, "not a directory")
	}
}

// validate returns all faults of c at once.
func (c *Cmd) validate() error {
	f := &faults{prefix: "Cmd."}
	size := 0
	for _, a := range c.Args {
		f.check(strings.IndexByte(a, 0) >= 0, "Args", a, "has a NUL byte")
		f.check(len(a) >= maxArg, "Args", nil, "an argument of 128 KiB or more (execve(2))")
		size += len(a) + 9
	}
	f.check(len(c.Args) > 0 && c.Args[0] == "" && !c.Entrypoint, "Args", nil, "Args[0], the command's name, is empty")
	for _, e := range c.Env {
		size += len(e) + 9
	}
	f.check(size > maxArgs, "Args", nil, "with Env more than 6 MiB (execve(2))")
	f.env(c.Env)
	f.dir(c.Dir)
	f.user(c.User)
	f.limits(c.Limits)
	f.check(c.WaitDelay < 0, "WaitDelay", c.WaitDelay, "negative")
	f.check(c.Pipes&^(PipeStdin|PipeStdout|PipeStderr) != 0, "Pipes", c.Pipes, "not a combination of PipeStdin, PipeStdout and PipeStderr")
	f.check(c.Pipes&PipeStdin != 0 && c.Stdin != nil, "Stdin", nil, "set beside PipeStdin")
	f.check(c.Pipes&PipeStdout != 0 && c.Stdout != nil, "Stdout", nil, "set beside PipeStdout")
	f.check(c.Pipes&PipeStderr != 0 && c.Stderr != nil, "Stderr", nil, "set beside PipeStderr")
	f.check(isNil(c.Stdin), "Stdin", nil, "a nil pointer in an interface")
	f.check(isNil(c.Stdout), "Stdout", nil, "a nil pointer in an interface")
	f.check(isNil(c.Stderr), "Stderr", nil, "a nil pointer in an interface")
	f.extraFiles(c.ExtraFiles)
	return errors.Join(f.errs...)
}

// isNil finds the typed nil that a forgotten assignment leaves.
func isNil(v any) bool {
	r := reflect.ValueOf(v)
	return r.IsValid() && r.Kind() == reflect.Pointer && r.IsNil()
}

func (f *faults) extraFiles(files []*os.File) {
	for _, file := range files {
		if file == nil {
			f.add("ExtraFiles", nil, "a nil *os.File")
			continue
		}
		info, err := file.Stat()
		switch {
		case err != nil:
			f.add("ExtraFiles", file.Name(), err.Error())
		case info.IsDir():
			f.add("ExtraFiles", file.Name(), "a directory: it would be a way out of the sandbox")
		case info.Mode()&os.ModeSocket != 0:
			f.add("ExtraFiles", file.Name(), "a socket: it could take in descriptors from outside")
		case isPath(file):
			f.add("ExtraFiles", file.Name(), "opened with O_PATH: it would be a way out of the sandbox")
		}
	}
}

func (f *faults) env(env []string) {
	for _, e := range env {
		// The value may be a secret: name the key only.
		key, _, ok := strings.Cut(e, "=")
		f.check(!ok || key == "", "Env", key, "not of the form KEY=value")
		f.check(strings.IndexByte(e, 0) >= 0, "Env", key, "has a NUL byte")
		f.check(len(e) >= maxArg, "Env", key, "128 KiB or more (execve(2))")
	}
}

func (f *faults) dir(dir string) {
	if dir == "" {
		return
	}
	f.check(!path.IsAbs(dir), "Dir", dir, "not an absolute path")
	f.check(strings.IndexByte(dir, 0) >= 0, "Dir", dir, "has a NUL byte")
	f.check(len(dir) >= pathMax, "Dir", nil, "4,096 bytes or more")
}

func (f *faults) user(user string) {
	if user == "" {
		return
	}
	name, group, hasGroup := strings.Cut(user, ":")
	f.check(name == "" || hasGroup && group == "" || strings.ContainsAny(user, "\x00\n/") || strings.Contains(group, ":"),
		"User", user, "not of the form USER[:GROUP]")
}

func (f *faults) limits(l Limits) {
	f.check(l.Memory < 0, "Limits.Memory", l.Memory, "negative")
	f.check(l.PIDs < 0, "Limits.PIDs", l.PIDs, "negative")
	f.check(l.CPUs < 0 || l.CPUs != l.CPUs, "Limits.CPUs", l.CPUs, "negative or not a number")
	f.check(l.CPUs > 0 && l.CPUs < 0.01, "Limits.CPUs", l.CPUs, "less than 0.01, the kernel's minimum (1 ms in 100 ms)")
	f.check(l.CPUs > 1<<20, "Limits.CPUs", l.CPUs, "more processors than any machine has")
	f.check(l.Wall < 0, "Limits.Wall", l.Wall, "negative")
	f.check(l.Output < 0, "Limits.Output", l.Output, "negative")
	f.check(l.FileSize < 0, "Limits.FileSize", l.FileSize, "negative")
	f.check(l.Stack < Unlimited, "Limits.Stack", l.Stack, "negative, and not Unlimited")
	f.check(l.Stack > 0 && l.Stack < 128<<10, "Limits.Stack", l.Stack, "less than 128 KiB, which an exec needs for its arguments")
	f.check(l.OpenFiles < Unlimited, "Limits.OpenFiles", l.OpenFiles, "negative, and not Unlimited")
	f.check(l.OpenFiles > 0 && l.OpenFiles < 4, "Limits.OpenFiles", l.OpenFiles, "less than 4: the standard streams and one to load the program")
}
