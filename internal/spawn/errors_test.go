//go:build linux

package spawn

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

func failingChdir(p *Program) { p.Do("chdir", "/nonexistent", unix.SYS_CHDIR, "/nonexistent") }

// An error names the call that failed, its object and errno, whichever child it was in.
func TestErrorNamesTheCall(t *testing.T) {
	testenv.Leaks(t)
	t.Cleanup(Release)
	missing := Error{Op: "chdir", Path: "/nonexistent", Errno: unix.ENOENT}
	for _, c := range []struct {
		name  string
		build func(*Program)
		want  Error
		text  string
	}{
		{"Do", failingChdir, missing, `chdir "/nonexistent": no such file or directory`},
		{"Zero fails", func(p *Program) { p.Zero("close", "", unix.SYS_CLOSE, -1) },
			Error{Op: "close", Errno: unix.EBADF}, "close: bad file descriptor"},
		{"Zero is positive", func(p *Program) { p.Zero("umask", "it", unix.SYS_UMASK, 0o22) },
			Error{Op: "umask", Path: "it", Result: 18}, `umask "it": returned 18, not 0`},
		{"in Fork", func(p *Program) { n := p.Fork(0); failingChdir(p); p.Join(n) }, missing, ""},
		{"after Join", func(p *Program) { n := p.Fork(0); p.Join(n); failingChdir(p) }, missing, ""},
		{"in Fork in Fork", func(p *Program) {
			n := p.Fork(0)
			m := p.Fork(0)
			failingChdir(p)
			p.Join(m)
			p.Join(n)
		}, missing, ""},
		{"clone3 in the child", func(p *Program) { n := p.Fork(unix.CLONE_NEWNS | unix.CLONE_FS); p.Join(n) },
			Error{Op: "clone3", Errno: unix.EINVAL}, "clone3: invalid argument"},
		{"Branch to Stop", func(p *Program) { p.Branch(p.Do("getpid", "", unix.SYS_GETPID), Next, Next, Stop) }, Error{Op: "getpid"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			starts := map[string]error{}
			_, _, starts["Run"] = Run(t.Context(), func(p *Program) {
				knownUmask(p)
				c.build(p)
			})
			_, starts["plain"] = Start(t.Context(), Setup{Files: 3}, command(func(p *Program) { knownUmask(p); c.build(p) }, "/bin/true"))
			_, starts["nested"] = Start(t.Context(), Setup{Files: 3}, command(func(p *Program) {
				p.ForkCommand(0, NoRef)
				knownUmask(p)
				c.build(p)
			}, "/bin/true"))
			for how, err := range starts {
				var e *Error
				require.ErrorAs(t, err, &e, how)
				got := *e
				if c.name == "Branch to Stop" {
					require.Positive(t, got.Result)
					got.Result = 0
				}
				require.Equal(t, c.want, got, how)
				require.Equal(t, c.want.Errno == unix.ENOENT, errors.Is(err, fs.ErrNotExist), how)
				if c.text != "" {
					require.EqualError(t, err, c.text, how)
				}
				require.Empty(t, children(t), how)
			}
		})
	}
}

// knownUmask makes the result of the next umask known.
func knownUmask(p *Program) { p.Do("umask", "", unix.SYS_UMASK, 0o22) }

// After a failure in a nested child its parent does nothing more.
func TestNothingAfterFailure(t *testing.T) {
	var inside, after Ref
	_, p, err := Run(t.Context(), func(p *Program) {
		n := p.Fork(0)
		failingChdir(p)
		inside = p.Do("getpid", "", unix.SYS_GETPID)
		p.Join(n)
		after = p.Do("getpid", "", unix.SYS_GETPID)
	})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Equal(t, -int(unix.ECANCELED), p.Result(inside))
	require.Equal(t, -int(unix.ECANCELED), p.Result(after))
}

// What can't be executed says why, by the path that says most.
func TestExecError(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		testenv.Leaks(t)
		t.Cleanup(Release)
		dir := t.TempDir()
		file := func(name, text string, mode os.FileMode) string {
			path := filepath.Join(dir, name)
			require.NoError(t, os.WriteFile(path, []byte(text), mode))
			return path
		}
		plainFile := file("plain", "#!/bin/sh\n", 0o644)
		noInterp := file("script", "#!/nonexistent/sh\n", 0o755)
		noFormat := file("noformat", "exit 0\n", 0o755)
		gone := filepath.Join(dir, "gone")
		closed := filepath.Join(dir, "closed")
		require.NoError(t, os.Mkdir(closed, 0))
		for _, c := range []struct {
			name  string
			paths []string
			arg   string
			path  string
			errno syscall.Errno
			is    []error
			text  string
		}{
			{"not found", []string{gone}, "", gone, unix.ENOENT, []error{fs.ErrNotExist, exec.ErrNotFound}, "no such file or directory"},
			{"not found in PATH", []string{gone, gone + "2"}, "", gone, unix.ENOENT, []error{fs.ErrNotExist, exec.ErrNotFound}, `exec: not found: tried ["` + gone + `" "` + gone + `2"]`},
			{"no PATH", nil, "", "", unix.ENOENT, []error{fs.ErrNotExist, exec.ErrNotFound}, "exec: not found: tried []"},
			{"not executable", []string{plainFile}, "", plainFile, unix.EACCES, []error{fs.ErrPermission}, "permission denied"},
			{"not executable is more than not found", []string{gone, plainFile, gone}, "", plainFile, unix.EACCES, []error{fs.ErrPermission}, ""},
			{"bad interpreter", []string{noInterp}, "", noInterp, unix.ENOENT, nil, "its interpreter or dynamic loader is not there"},
			{"bad interpreter is more than not found", []string{gone, noInterp}, "", noInterp, unix.ENOENT, nil, "interpreter"},
			{"directory", []string{dir}, "", dir, unix.EACCES, []error{fs.ErrPermission}, ""},
			{"below a file", []string{plainFile + "/x"}, "", plainFile + "/x", unix.ENOTDIR, nil, "not a directory"},
			{"below a file in PATH", []string{plainFile + "/x", gone}, "", plainFile + "/x", unix.ENOENT, []error{exec.ErrNotFound}, "not found"},
			{"no format", []string{noFormat}, "", noFormat, unix.ENOEXEC, nil, "exec format error"},
			{"too large", []string{"/bin/true"}, strings.Repeat("x", 1<<20), "/bin/true", unix.E2BIG, nil, "argument list too long"},
		} {
			for _, nested := range []bool{false, true} {
				_, err := Start(t.Context(), Setup{Files: 3}, func(p *Program) {
					if nested {
						p.ForkCommand(0, NoRef)
					}
					p.Exec(c.paths, []string{"x", c.arg}, nil, nil)
				})
				var e *ExecError
				require.ErrorAs(t, err, &e, c.name)
				require.Equal(t, c.path, e.Path, c.name)
				require.Equal(t, c.errno, e.Errno, c.name)
				require.ErrorIs(t, err, c.errno)
				require.Equal(t, c.paths, e.Paths, c.name)
				require.Equal(t, strings.HasPrefix(c.name, "bad interp"), e.BadInterpreter, c.name)
				require.Contains(t, err.Error(), c.text)
				for _, is := range c.is {
					require.ErrorIs(t, err, is, c.name)
				}
				if e.BadInterpreter {
					require.NotErrorIs(t, err, exec.ErrNotFound)
				}
				require.Empty(t, children(t))
			}
		}
		if os.Geteuid() != 0 { // root may search it
			_, err := Start(t.Context(), Setup{Files: 3}, func(p *Program) {
				p.Exec([]string{gone, closed + "/x", gone}, []string{"x"}, nil, nil)
			})
			require.ErrorIs(t, err, fs.ErrPermission, "as execvp(3): a directory that may not be searched")
		}
	})
}

// A program that its author got wrong is an error, in place of a panic or a child that runs it.
func TestMisuse(t *testing.T) {
	testenv.Leaks(t)
	t.Cleanup(Release)
	void := func(p *Program) { p.Exec([]string{"/bin/true"}, []string{"true"}, nil, nil) }
	for _, c := range []struct {
		name   string
		starts bool
		build  func(*Program)
		text   string
	}{
		{"argument's type", false, func(p *Program) { p.Do("x", "", 0, 1.5) }, "type float64"},
		{"too many arguments", false, func(p *Program) { p.Do("x", "", 0, 1, 2, 3, 4, 5, 6, 7) }, "7 arguments"},
		{"NoRef", false, func(p *Program) { p.Do("x", "", 0, NoRef) }, "Ref -1"},
		{"a later Ref", false, func(p *Program) { p.Do("x", "", 0, Ref(1000)) }, "Ref 1000"},
		{"its own Ref", false, func(p *Program) { r := p.Do("x", "", 0); p.Do("y", "", 0, r+1) }, "no call has Ref"},
		{"Branch of nothing", false, func(p *Program) { p.Branch(NoRef, Next, Next, Next) }, "Ref -1"},
		{"PathOf nothing", false, func(p *Program) { p.PathOf(NoRef) }, "Ref -1"},
		{"Store of nothing", false, func(p *Program) { p.Store(NoRef) }, "Ref -1"},
		{"Send of nothing", false, func(p *Program) { p.Send(NoRef) }, "Ref -1"},
		{"stored twice", false, func(p *Program) { r := p.Do("x", "", 0); p.Store(r); p.Store(r) }, "stored twice"},
		{"label without place", false, func(p *Program) { l := p.Label(); p.Branch(p.Try("x", "", 0), l, l, l) }, "leads nowhere"},
		{"no such label", false, func(p *Program) { p.Branch(p.Try("x", "", 0), 7, -9, Next) }, "leads nowhere"},
		{"Mark of no label", false, func(p *Program) { p.Mark(Next) }, "Mark of label -1"},
		{"label with two places", false, func(p *Program) { l := p.Label(); p.Mark(l); p.Mark(l) }, "Mark of label"},
		{"Fork without Join", false, func(p *Program) { p.Fork(0) }, "leads nowhere"},
		{"Exec in Run", false, void, "Exec is for Start"},
		{"ForkCommand in Run", false, func(p *Program) { p.ForkCommand(0, NoRef) }, ""},
		{"no Exec in Start", true, func(p *Program) { p.Exit() }, "Exec is for Start"},
		{"nothing in Start", true, func(p *Program) {}, "it ends in"},
		{"after Exec", true, func(p *Program) { void(p); p.Do("x", "", 0) }, "it ends in"},
		{"two Execs", true, func(p *Program) { void(p); void(p) }, "second Exec"},
		{"two ForkCommands", true, func(p *Program) { p.ForkCommand(0, NoRef); p.ForkCommand(0, NoRef); void(p) }, "second ForkCommand"},
		{"ExecInit in Run", false, func(p *Program) { p.ExecInit(p.Input(0), p.OwnNamespaces()) }, "ExecInit without Setup.Files"},
		{"no Init", true, func(p *Program) { p.PIDNamespace(); void(p) }, "PIDNamespace without an Init"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var err error
			if c.starts {
				_, err = Start(t.Context(), Setup{Files: 3}, c.build)
			} else {
				_, _, err = Run(t.Context(), c.build)
			}
			require.ErrorContains(t, err, "BUG(sandbox)")
			require.ErrorContains(t, err, c.text)
		})
	}
}

func TestNUL(t *testing.T) {
	for name, build := range map[string]func(*Program){
		"path": func(p *Program) { p.Exec([]string{"/bin/tr\x00ue"}, []string{"true"}, nil, nil) },
		"argv": func(p *Program) { p.Exec([]string{"/bin/true"}, []string{"true", "a\x00b"}, nil, nil) },
		"env":  func(p *Program) { p.Exec([]string{"/bin/true"}, []string{"true"}, []string{"A=\x00"}, nil) },
		"arg": func(p *Program) {
			p.Do("chdir", "", unix.SYS_CHDIR, "/\x00")
			p.Exec([]string{"/bin/true"}, []string{"true"}, nil, nil)
		},
	} {
		_, err := Start(t.Context(), Setup{Files: 3}, build)
		require.ErrorIs(t, err, unix.EINVAL, name)
		require.ErrorContains(t, err, `\x00`, name)
	}
}
