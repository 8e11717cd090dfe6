package sandbox_test

import (
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/netns"
)

// fields lists the FieldErrors in an error, each with its field.
func fields(err error) (all []string) {
	switch e := err.(type) {
	case *sandbox.FieldError:
		return []string{e.Field}
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			all = append(all, fields(err)...)
		}
	case interface{ Unwrap() error }:
		return fields(e.Unwrap())
	}
	return all
}

// requireFields wants a typed error that names exactly these fields.
func requireFields(t testing.TB, err error, want ...string) {
	t.Helper()
	require.ErrorIs(t, err, fs.ErrInvalid)
	var e *sandbox.Error
	require.ErrorAs(t, err, &e)
	require.ElementsMatch(t, want, fields(err), "%v", err)
	for _, f := range want {
		require.Contains(t, err.Error(), f+": ")
	}
}

// secret is the value of a variable, which no error may repeat.
const secret = "hunter2"

var tooLarge = slices.Repeat([]string{strings.Repeat("x", 100_000)}, 100)

func badOptions(t testing.TB) map[string]struct {
	o    sandbox.Options
	want []string
} {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	dir := t.TempDir()
	type c = struct {
		o    sandbox.Options
		want []string
	}
	opt := func(field string, o sandbox.Options) c { return c{o, []string{"Options." + field}} }
	lim := func(field string, l sandbox.Limits) c {
		return opt("Limits."+field, sandbox.Options{Limits: l})
	}
	return map[string]c{
		"name with slash":     opt("Name", sandbox.Options{Name: "a/b"}),
		"name with dots":      opt("Name", sandbox.Options{Name: ".."}),
		"name too long":       opt("Name", sandbox.Options{Name: strings.Repeat("a", 64)}),
		"labels too large":    opt("Labels", sandbox.Options{Labels: map[string]string{"a": strings.Repeat("a", 65<<10)}}),
		"label not UTF-8":     opt("Labels", sandbox.Options{Labels: map[string]string{"a": "\xff"}}),
		"rootfs relative":     opt("Rootfs", sandbox.Options{Rootfs: "relative"}),
		"rootfs missing":      opt("Rootfs", sandbox.Options{Rootfs: filepath.Join(dir, "missing")}),
		"rootfs a file":       opt("Rootfs", sandbox.Options{Rootfs: file}),
		"rootfs with NUL":     opt("Rootfs", sandbox.Options{Rootfs: "/\x00"}),
		"reference malformed": opt("Image", sandbox.Options{Image: "UPPER CASE"}),
		"reference empty tag": opt("Image", sandbox.Options{Image: "image:"}),
		"two roots":           opt("Rootfs", sandbox.Options{Image: "alpine", Rootfs: dir}),
		"env without =":       opt("Env", sandbox.Options{Env: []string{secret}}),
		"env without key":     opt("Env", sandbox.Options{Env: []string{"=" + secret}}),
		"env with NUL":        opt("Env", sandbox.Options{Env: []string{"A=" + secret + "\x00"}}),
		"env entry too large": opt("Env", sandbox.Options{Env: []string{"A=" + strings.Repeat(secret, 20_000)}}),
		"dir relative":        opt("Dir", sandbox.Options{Dir: "tmp"}),
		"dir with NUL":        opt("Dir", sandbox.Options{Dir: "/tmp\x00"}),
		"dir too long":        opt("Dir", sandbox.Options{Dir: "/" + strings.Repeat("a/", 3000)}),
		"user without name":   opt("User", sandbox.Options{User: ":0"}),
		"user without group":  opt("User", sandbox.Options{User: "root:"}),
		"user of three":       opt("User", sandbox.Options{User: "a:b:c"}),
		"user with newline":   opt("User", sandbox.Options{User: "a\nb"}),
		"hostname too long":   opt("Hostname", sandbox.Options{Hostname: strings.Repeat("h", 65)}),
		"hostname with space": opt("Hostname", sandbox.Options{Hostname: "a b"}),
		"clock":               opt("Clock.Monotonic", sandbox.Options{Clock: &sandbox.Clock{Monotonic: time.Millisecond}}),
		"network":             opt("Network", sandbox.Options{Network: netns.Config{Mode: 99}}),
		"memory negative":     lim("Memory", sandbox.Limits{Memory: -1}),
		"memory most":         lim("Memory", sandbox.Limits{Memory: math.MinInt64}),
		"pids":                lim("PIDs", sandbox.Limits{PIDs: -1}),
		"cpus negative":       lim("CPUs", sandbox.Limits{CPUs: -0.5}),
		"cpus tiny":           lim("CPUs", sandbox.Limits{CPUs: 0.001}),
		"cpus NaN":            lim("CPUs", sandbox.Limits{CPUs: math.NaN()}),
		"cpus infinite":       lim("CPUs", sandbox.Limits{CPUs: math.Inf(1)}),
		"wall":                lim("Wall", sandbox.Limits{Wall: -time.Second}),
		"output":              lim("Output", sandbox.Limits{Output: -1}),
		"file size":           lim("FileSize", sandbox.Limits{FileSize: -1}),
		"stack negative":      lim("Stack", sandbox.Limits{Stack: -2}),
		"stack tiny":          lim("Stack", sandbox.Limits{Stack: 4096}),
		"open files negative": lim("OpenFiles", sandbox.Limits{OpenFiles: -2}),
		"open files tiny":     lim("OpenFiles", sandbox.Limits{OpenFiles: 3}),
		"many": {sandbox.Options{Name: "/", Dir: "x", User: ":", Env: []string{"A"}, Rootfs: "r", Limits: sandbox.Limits{Memory: -1, Wall: -1}},
			[]string{"Options.Name", "Options.Dir", "Options.User", "Options.Env", "Options.Rootfs", "Options.Limits.Memory", "Options.Limits.Wall"}},
	}
}

// noDefaultStore gives the test a default store of its own, where it is no root's, and fails if anything makes it.
func noDefaultStore(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_DATA_HOME", dir)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	list := func() (names []string) {
		for _, dir := range []string{dir, "/var/lib/sandbox", "/run/sandbox"} {
			entries, _ := os.ReadDir(dir)
			for _, e := range entries {
				names = append(names, filepath.Join(dir, e.Name()))
			}
		}
		return names
	}
	before := list()
	t.Cleanup(func() { require.Equal(t, before, list()) })
}

// A bad Options is refused with all its faults, each naming its field, before anything is made.
func TestBadOptions(t *testing.T) {
	noDefaultStore(t)
	for name, tt := range badOptions(t) {
		t.Run(name, func(t *testing.T) {
			sb := sandbox.New(tt.o)
			defer sb.Close()
			err := sb.Prepare(t.Context())
			requireFields(t, err, tt.want...)
			require.NotContains(t, err.Error(), secret)
			require.Less(t, len(err.Error()), 2000)
			// The faults of both are there at once.
			_, err = sb.Run(t.Context(), &sandbox.Cmd{Args: []string{"true"}, WaitDelay: -1})
			requireFields(t, err, append([]string{"Cmd.WaitDelay"}, tt.want...)...)
		})
	}
}

func badCmds(t testing.TB) map[string]struct {
	c    sandbox.Cmd
	want []string
} {
	dir, err := os.Open(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { dir.Close() })
	closed, err := os.Open(os.DevNull)
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	args := []string{"true"}
	type c = struct {
		c    sandbox.Cmd
		want []string
	}
	cmd := func(field string, o sandbox.Cmd) c {
		if o.Args == nil {
			o.Args = args
		}
		return c{o, []string{"Cmd." + field}}
	}
	lim := func(field string, l sandbox.Limits) c { return cmd("Limits."+field, sandbox.Cmd{Limits: l}) }
	return map[string]c{
		"NUL in an argument":    cmd("Args", sandbox.Cmd{Args: []string{"a", "b\x00"}}),
		"empty name":            cmd("Args", sandbox.Cmd{Args: []string{"", "b"}}),
		"argument too large":    cmd("Args", sandbox.Cmd{Args: []string{"a", strings.Repeat("a", 128<<10)}}),
		"arguments too large":   cmd("Args", sandbox.Cmd{Args: tooLarge}),
		"for the stack":         cmd("Args", sandbox.Cmd{Args: tooLarge[:2], Limits: sandbox.Limits{Stack: 512 << 10}}),
		"for the default stack": cmd("Args", sandbox.Cmd{Args: tooLarge[:22]}),
		"env too large":         cmd("Args", sandbox.Cmd{Env: slices.Repeat([]string{"A=" + strings.Repeat("x", 100_000)}, 100)}),
		"env without =":         cmd("Env", sandbox.Cmd{Env: []string{secret}}),
		"env with NUL":          cmd("Env", sandbox.Cmd{Env: []string{"A=" + secret + "\x00"}}),
		"dir relative":          cmd("Dir", sandbox.Cmd{Dir: "tmp"}),
		"user":                  cmd("User", sandbox.Cmd{User: "a:b:c"}),
		"wait delay":            cmd("WaitDelay", sandbox.Cmd{WaitDelay: -1}),
		"pipes":                 cmd("Pipes", sandbox.Cmd{Pipes: 1 << 7}),
		"stdin and pipe":        cmd("Stdin", sandbox.Cmd{Pipes: sandbox.PipeStdin, Stdin: strings.NewReader("")}),
		"stdout and pipe":       cmd("Stdout", sandbox.Cmd{Pipes: sandbox.PipeStdout, Stdout: os.Stdout}),
		"stderr and pipe":       cmd("Stderr", sandbox.Cmd{Pipes: sandbox.PipeStderr, Stderr: os.Stderr}),
		"log and pipe":          cmd("Log", sandbox.Cmd{Pipes: sandbox.PipeStderr, Log: &sandbox.Log{}}),
		"log of many faults": {sandbox.Cmd{Args: args, Pipes: sandbox.PipeStdout, Log: &sandbox.Log{MaxSize: 64<<10 - 1, MaxFiles: -1}},
			[]string{"Cmd.Log", "Cmd.Log.MaxSize", "Cmd.Log.MaxFiles"}},
		"log size":           cmd("Log.MaxSize", sandbox.Cmd{Log: &sandbox.Log{MaxSize: -1}}),
		"stdin typed nil":    cmd("Stdin", sandbox.Cmd{Stdin: (*os.File)(nil)}),
		"stdout typed nil":   cmd("Stdout", sandbox.Cmd{Stdout: (*os.File)(nil)}),
		"stdin a directory":  cmd("Stdin", sandbox.Cmd{Stdin: dir}),
		"stderr a directory": cmd("Stderr", sandbox.Cmd{Stderr: dir}),
		"stdout closed":      cmd("Stdout", sandbox.Cmd{Stdout: closed}),
		"extra nil":          cmd("ExtraFiles", sandbox.Cmd{ExtraFiles: []*os.File{nil}}),
		"extra closed":       cmd("ExtraFiles", sandbox.Cmd{ExtraFiles: []*os.File{closed}}),
		"extra directory":    cmd("ExtraFiles", sandbox.Cmd{ExtraFiles: []*os.File{os.Stderr, dir}}),
		"memory":             lim("Memory", sandbox.Limits{Memory: -1}),
		"pids":               lim("PIDs", sandbox.Limits{PIDs: -1}),
		"cpus":               lim("CPUs", sandbox.Limits{CPUs: math.Inf(-1)}),
		"wall":               lim("Wall", sandbox.Limits{Wall: -1}),
		"output":             lim("Output", sandbox.Limits{Output: sandbox.Unlimited}),
		"file size":          lim("FileSize", sandbox.Limits{FileSize: -1}),
		"stack":              lim("Stack", sandbox.Limits{Stack: 1}),
		"open files":         lim("OpenFiles", sandbox.Limits{OpenFiles: 1}),
		"many": {sandbox.Cmd{Args: []string{"\x00"}, Dir: "x", Env: []string{"A"}, User: ":", WaitDelay: -1, Limits: sandbox.Limits{PIDs: -1, Stack: 1}},
			[]string{"Cmd.Args", "Cmd.Dir", "Cmd.Env", "Cmd.User", "Cmd.WaitDelay", "Cmd.Limits.PIDs", "Cmd.Limits.Stack"}},
	}
}

// A bad Cmd is refused in the same way, before the sandbox is made for it.
func TestBadCmd(t *testing.T) {
	noDefaultStore(t)
	for name, tt := range badCmds(t) {
		t.Run(name, func(t *testing.T) {
			sb := sandbox.New(sandbox.Options{})
			defer sb.Close()
			p, err := sb.Start(t.Context(), &tt.c)
			require.Nil(t, p)
			requireFields(t, err, tt.want...)
			require.NotContains(t, err.Error(), secret)
			require.Less(t, len(err.Error()), 2000)
		})
	}
}

// Contradictions of nothing at all: no Cmd, no argument, a closed sandbox.
func TestNoCmd(t *testing.T) {
	noDefaultStore(t)
	sb := sandbox.New(sandbox.Options{})
	_, err := sb.Run(t.Context(), nil)
	requireFields(t, err, "Cmd")
	_, err = sb.Start(t.Context(), nil)
	requireFields(t, err, "Cmd")
	_, err = sb.Output(t.Context(), nil)
	requireFields(t, err, "Cmd")
	require.NoError(t, sb.Close())
	require.NoError(t, sb.Close())
	_, err = sb.Run(t.Context(), sandbox.Command("true"))
	require.ErrorIs(t, err, os.ErrClosed)
	require.ErrorIs(t, sb.Prepare(t.Context()), os.ErrClosed)
	_, err = sb.Dial(t.Context(), "tcp", ":1")
	require.ErrorIs(t, err, os.ErrClosed)
	_, err = sb.Listen(t.Context(), "tcp", ":1")
	require.ErrorIs(t, err, os.ErrClosed)
	_, err = sb.Processes(t.Context())
	require.ErrorIs(t, err, os.ErrClosed)
}

// Whatever the Options and the Cmd: no panic, and no fault hides another.
func FuzzValidate(f *testing.F) {
	f.Add("name", "alpine:3.20", "/root", "K=v", "/dir", "user:group", "host", int64(1), 0.5)
	f.Add("", "", "", "", "", "", "", int64(-1), math.NaN())
	f.Add("\x00", "oci:", "//", "=", "..", ":", " ", int64(math.MinInt64), math.Inf(1))
	f.Fuzz(func(t *testing.T, name, image, root, env, dir, user, host string, n int64, x float64) {
		l := sandbox.Limits{Memory: n, PIDs: n, CPUs: x, Wall: time.Duration(n), Output: n, FileSize: n, Stack: n, OpenFiles: n}
		sb := sandbox.New(sandbox.Options{Name: name, Image: image, Rootfs: root, Env: []string{env}, Dir: dir, User: user, Hostname: host,
			Labels: map[string]string{name: host}, Clock: &sandbox.Clock{Monotonic: time.Duration(n)}, Limits: l, Network: netns.Config{Mode: netns.Mode(n)}})
		defer sb.Close()
		// One fault for certain, so that nothing is ever made.
		p, err := sb.Start(t.Context(), &sandbox.Cmd{Args: []string{name, image}, Env: []string{env}, Dir: dir, User: user, Limits: l,
			Pipes: sandbox.Pipes(n), WaitDelay: -1})
		if p != nil || !slices.Contains(fields(err), "Cmd.WaitDelay") {
			t.Fatalf("%v, %v", p, err)
		}
	})
}
