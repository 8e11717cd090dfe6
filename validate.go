package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seed-5a9fb6e0/sandbox/cgroup"
	"github.com/seed-5a9fb6e0/sandbox/image"
	"github.com/seed-5a9fb6e0/sandbox/internal/store"
	"github.com/seed-5a9fb6e0/sandbox/rootfs"
)

// faults collects everything that is wrong with an Options or a Cmd.
type faults struct {
	prefix string
	errs   []error
}

// maxShown bounds what an error repeats of a value.
const maxShown = 256

func (f *faults) add(field string, value any, reason string) {
	if s, ok := value.(string); ok && len(s) > maxShown {
		value = nil
	}
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
	minArgs     = 128 << 10 // ARG_MAX: what execve allows in all whatever the stack
	maxArgs     = 6 << 20   // three quarters of _STK_LIM: what it allows at most
	maxLabels   = 64 << 10
	maxHostname = 64
	maxSignal   = 64
	pathMax     = 4096
)

// validate returns all faults of o at once.
func (o *Options) validate() error { return o.validateWith(o.Limits) }

// validateWith is validate with other Limits.
func (o *Options) validateWith(l Limits) error {
	f := &faults{prefix: "Options."}
	if o.Name != "" {
		f.check(store.CheckName(o.Name) != nil, "Name", o.Name, "not of the form [a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
	}
	o.validateRoot(f)
	o.validateLabels(f)
	o.validateMounts(f)
	f.env(o.Env)
	f.check(argSize(o.Env) > maxArgs, "Env", nil, "more than 6 MiB (execve(2))")
	f.dir(o.Dir)
	f.user(o.User)
	f.check(len(o.Hostname) > maxHostname, "Hostname", o.Hostname, "longer than 64 bytes (sethostname(2))")
	f.check(strings.ContainsAny(o.Hostname, "\x00\n\r\t /"), "Hostname", o.Hostname, "has a character that no hostname has")
	if c := o.Clock; c != nil {
		f.check(c.Monotonic%time.Second != 0, "Clock.Monotonic", c.Monotonic, "not a whole number of seconds")
		f.check(c.Boottime%time.Second != 0, "Clock.Boottime", c.Boottime, "not a whole number of seconds")
	}
	f.limits(l)
	o.Security.validate(f)
	if err := o.Network.Validate(); err != nil {
		f.add("Network", nil, err.Error())
	}
	return errors.Join(f.errs...)
}

func (s Security) validate(f *faults) {
	f.check(s.Nesting && s.Seccomp == "strict", "Security.Nesting", nil, `can't be had with Seccomp "strict"`)
	for _, d := range s.Devices {
		if err := checkDevice(d); err != nil {
			f.add("Security.Devices", d, err.Error())
		}
	}
	if err := s.checkCapabilities(); err != nil {
		f.add("Security.Capabilities", s.Capabilities, err.Error())
	}
	if s.Notify != nil {
		if err := checkNotify(s.Notify); err != nil {
			f.add("Security.Notify", nil, err.Error())
			s.Notify = nil
		}
	}
	switch err := s.checkSeccomp(); {
	case err == nil:
	case strings.HasPrefix(strings.TrimSpace(s.Seccomp), "{"):
		f.add("Security.Seccomp", nil, "a profile with a mistake: "+err.Error())
	default:
		f.add("Security.Seccomp", s.Seccomp, `neither "", "strict", "docker", "off" nor a profile in JSON`)
	}
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

func (o *Options) validateMounts(f *faults) {
	seen := map[string]bool{}
	for i, m := range o.Mounts {
		f.mount(fmt.Sprintf("Mounts[%d]", i), m.Validate())
		f.check(seen[m.Target] && m.Target != "", fmt.Sprintf("Mounts[%d].Target", i), m.Target, "the target of another one")
		seen[m.Target] = true
		if _, err := image.ParseReference(m.Source); m.Type == rootfs.Image && m.Source != "" && err != nil {
			f.add(fmt.Sprintf("Mounts[%d].Source", i), m.Source, err.Error())
		}
	}
}

// mount adds the faults that package rootfs has found.
func (f *faults) mount(name string, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			f.mount(name, e)
		}
		return
	}
	var e *rootfs.FieldError
	switch {
	case !errors.As(err, &e):
	case errors.Is(e, errors.ErrUnsupported):
		f.errs = append(f.errs, fmt.Errorf("%s%s.%w", f.prefix, name, e))
	default:
		f.add(name+"."+e.Field, e.Value, e.Err.Error())
	}
}

func (o *Options) validateLabels(f *faults) {
	size := 0
	for k, v := range o.Labels {
		f.check(!utf8.ValidString(k) || !utf8.ValidString(v), "Labels", k, "not UTF-8")
		size += len(k) + len(v)
	}
	f.check(size > maxLabels, "Labels", nil, "more than 64 KiB in all")
}

// validate returns all faults of c at once.
func (c *Cmd) validate() error {
	f := &faults{prefix: "Cmd."}
	for _, a := range c.Args {
		f.check(strings.IndexByte(a, 0) >= 0, "Args", a, "has a NUL byte")
		f.check(len(a) >= maxArg, "Args", nil, "an argument of 128 KiB or more (execve(2))")
	}
	f.check(len(c.Args) > 0 && c.Args[0] == "" && !c.Entrypoint, "Args", nil, "Args[0], the command's name, is empty")
	f.env(c.Env)
	f.dir(c.Dir)
	f.user(c.User)
	f.limits(c.Limits)
	f.check(c.Limits.Disk != 0, "Limits.Disk", c.Limits.Disk, "a limit of the sandbox: set it in its Options")
	f.files(c.Files)
	f.check(c.StopSignal < 0 || c.StopSignal > maxSignal, "StopSignal", int(c.StopSignal), "no signal: they are 1 to 64 (signal(7))")
	f.check(c.WaitDelay < 0, "WaitDelay", c.WaitDelay, "negative")
	f.check(c.Pipes&^(PipeStdin|PipeStdout|PipeStderr) != 0, "Pipes", c.Pipes, "not a combination of PipeStdin, PipeStdout and PipeStderr")
	f.check(c.Pipes&PipeStdin != 0 && c.Stdin != nil, "Stdin", nil, "set beside PipeStdin")
	f.check(c.Pipes&PipeStdout != 0 && c.Stdout != nil, "Stdout", nil, "set beside PipeStdout")
	f.check(c.Pipes&PipeStderr != 0 && c.Stderr != nil, "Stderr", nil, "set beside PipeStderr")
	f.check(c.TTY != nil && c.Stderr != nil, "Stderr", nil, "set beside TTY: all that is written to a terminal comes by Stdout")
	f.check(c.TTY != nil && c.Pipes&PipeStderr != 0, "Pipes", c.Pipes, "has PipeStderr beside TTY: all that is written to a terminal comes by Stdout")
	f.log(c)
	f.stream("Stdin", c.Stdin)
	f.stream("Stdout", c.Stdout)
	f.stream("Stderr", c.Stderr)
	for _, file := range c.ExtraFiles {
		info := f.file("ExtraFiles", file)
		f.check(info != nil && info.Mode()&os.ModeSocket != 0, "ExtraFiles", nil, "a socket: it could take in descriptors from outside")
	}
	return errors.Join(f.errs...)
}

// files checks Cmd.Files by themselves.
func (f *faults) files(files []File) {
	seen := map[string]bool{}
	for i, file := range files {
		field := fmt.Sprintf("Files[%d].", i)
		f.check(!path.IsAbs(file.Name) || path.Clean(file.Name) != file.Name || strings.IndexByte(file.Name, 0) >= 0 || len(file.Name) >= pathMax,
			field+"Name", file.Name, "not an absolute, clean path")
		f.check(seen[file.Name], field+"Name", file.Name, "the name of another one")
		seen[file.Name] = true
		f.check(len(file.Data) > rootfs.MaxFileData, field+"Data", nil, "more than 64 MiB")
		f.check(file.Mode&^fs.ModePerm != 0, field+"Mode", file.Mode, "has more than permission bits")
	}
}

// placed says whether each of the Files lies where it can.
func (c *Cmd) placed(mounts []rootfs.Mount) error {
	var errs []error
	for i, file := range c.Files {
		if !slices.ContainsFunc(mounts, func(m rootfs.Mount) bool {
			return m.Type == rootfs.Tmpfs && m.Scope == rootfs.PerRun && strings.HasPrefix(file.Name, m.Target+"/")
		}) {
			errs = append(errs, &FieldError{fmt.Sprintf("Cmd.Files[%d].Name", i), file.Name, "in no Tmpfs of Options.Mounts with Scope PerRun"})
		}
	}
	return errors.Join(errs...)
}

// fits says whether the kernel will take the arguments of c, and of what the
// sandbox adds to its environment.
func (c *Cmd) fits(env []string, defaults Limits) error {
	most := argLimit(c.Limits.merged(defaults).Stack)
	if size := argSize(c.Args) + argSize(c.Env) + argSize(env); size > most {
		return &FieldError{"Cmd.Args", nil, fmt.Sprintf("with Env %d bytes, more than the %d that fit on the stack (execve(2), Limits.Stack)", size, most)}
	}
	return nil
}

// argSize is what an array of strings takes of the space for arguments: each
// with its NUL and its pointer (execve(2)).
func argSize(strings []string) (n int) {
	for _, s := range strings {
		n += len(s) + 1 + 8
	}
	return n
}

// argLimit is how much space the kernel gives arguments: a quarter of the
// stack's limit, within bounds (execve(2)). 0 is the default stack.
func argLimit(stack int64) int {
	switch stack {
	case 0:
		stack = 8 << 20
	case Unlimited:
		stack = math.MaxInt64
	}
	return int(max(minArgs, min(maxArgs, stack/4)))
}

// stream checks a Reader or Writer; one that is a file is passed on.
func (f *faults) stream(field string, v any) {
	if isNil(v) {
		f.add(field, nil, "a nil pointer in an interface")
	} else if file, ok := v.(*os.File); ok {
		f.file(field, file)
	}
}

// isNil finds the typed nil that a forgotten assignment leaves.
func isNil(v any) bool {
	r := reflect.ValueOf(v)
	return r.IsValid() && r.Kind() == reflect.Pointer && r.IsNil()
}

// file checks what a command would be given as a descriptor, and returns what it
// is, nil if that can't be told.
func (f *faults) file(field string, file *os.File) os.FileInfo {
	if file == nil {
		f.add(field, nil, "a nil *os.File")
		return nil
	}
	info, err := file.Stat()
	switch {
	case err != nil:
		f.add(field, file.Name(), err.Error())
		return nil
	case info.IsDir():
		f.add(field, file.Name(), "a directory: it would be a way out of the sandbox")
	case info.Mode()&os.ModeSocket == 0 && isPath(file): // it would make a socket's Reads block
		f.add(field, file.Name(), "opened with O_PATH: it would be a way out of the sandbox")
	}
	return info
}

func (f *faults) env(env []string) {
	for _, e := range env {
		// The value may be a secret: name the key only.
		key, _, ok := strings.Cut(e, "=")
		if !ok || key == "" {
			f.add("Env", nil, "an entry that is not of the form KEY=value")
			continue
		}
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
	f.cgroup(l.cgroup().Validate())
	f.check(l.Disk < 0 || l.Disk > 0 && l.Disk < 64<<10 || l.Disk > rootfs.MaxTmpfsSize, "Limits.Disk", l.Disk, "not between 64 KiB and 1 PiB")
	f.check(l.CPUTime < 0, "Limits.CPUTime", l.CPUTime, "negative")
	f.check(l.Wall < 0, "Limits.Wall", l.Wall, "negative")
	f.check(l.Output < 0, "Limits.Output", l.Output, "negative")
	f.check(l.FileSize < 0, "Limits.FileSize", l.FileSize, "negative")
	f.check(l.Stack < Unlimited, "Limits.Stack", l.Stack, "negative, and not Unlimited")
	f.check(l.Stack > 0 && l.Stack < 128<<10, "Limits.Stack", l.Stack, "less than 128 KiB, which an exec needs for its arguments")
	f.check(l.OpenFiles < Unlimited, "Limits.OpenFiles", l.OpenFiles, "negative, and not Unlimited")
	f.check(l.OpenFiles > 0 && l.OpenFiles < 4, "Limits.OpenFiles", l.OpenFiles, "less than 4: the standard streams and one to load the program")
}

// cgroup adds the faults that package cgroup has found.
func (f *faults) cgroup(err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			f.cgroup(e)
		}
		return
	}
	var e *cgroup.FieldError
	if errors.As(err, &e) {
		f.add("Limits."+e.Field, e.Value, e.Reason)
	}
}
