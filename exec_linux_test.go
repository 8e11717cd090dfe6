package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/rootfs"
)

// session starts a command that lives until it is killed.
func session(t testing.TB, sb *sandbox.Sandbox, init bool) *sandbox.Process {
	cmd := sandbox.Command("sleep", "100000")
	cmd.Init = init
	p, err := sb.Start(t.Context(), cmd)
	require.NoError(t, err)
	return p
}

// beside is what a script prints that is run beside a command.
func beside(t testing.TB, p *sandbox.Process, script string) string {
	t.Helper()
	var out bytes.Buffer
	cmd := sandbox.Command("sh", "-c", script)
	cmd.Stdout, cmd.Stderr = &out, &out
	r, err := p.Run(t.Context(), cmd)
	require.NoError(t, err)
	require.NoError(t, r.Err(), out.String())
	return strings.TrimSpace(out.String())
}

// behind runs a test with a command that is PID 1, and with one behind an init.
func behind(t *testing.T, f func(t *testing.T, init bool)) {
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		for _, init := range []bool{false, true} {
			t.Run(fmt.Sprint("init=", init), func(t *testing.T) { f(t, init) })
		}
	})
}

// A command beside another one sees its processes and mounts, and has all else of its own.
func TestExec(t *testing.T) {
	behind(t, func(t *testing.T, init bool) {
		sb := box(t, sandbox.Options{Mounts: []rootfs.Mount{{Type: rootfs.Tmpfs, Target: "/job", Writable: true, Scope: rootfs.PerRun}}, Env: []string{"A=sandbox"}})
		p := session(t, sb, init)
		pid := "1"
		if init {
			pid = "2"
		}
		require.Equal(t, "sleep", beside(t, p, "cat /proc/"+pid+"/comm"))
		require.Equal(t, "", beside(t, p, "echo kept >/job/f"))
		require.Equal(t, "kept", beside(t, p, "cat /job/f"), "its mounts are those of the command")
		require.Equal(t, "none", shell(t, sb, "cat /job/f 2>/dev/null || echo none"))
		require.Equal(t, "0", beside(t, p, "grep -c '^CapEff:.*[1-9a-f]' /proc/self/status >/dev/null; grep NoNewPrivs /proc/self/status | grep -c 0 || true"))
		require.Equal(t, "2", beside(t, p, "grep '^Seccomp:' /proc/self/status | tr -dc 2"))
		var out bytes.Buffer
		cmd := &sandbox.Cmd{Args: []string{"sh", "-c", "cat; echo $A $B; pwd; exit 7"}, Env: []string{"B=own"}, Dir: "/tmp", Stdin: strings.NewReader("in\n"), Stdout: &out}
		r, err := p.Run(t.Context(), cmd)
		require.NoError(t, err)
		require.Equal(t, 7, r.ExitCode)
		require.Equal(t, "in\nsandbox own\n/tmp\n", out.String())
		if !strings.Contains(t.Name(), "/user/") {
			cmd := sandbox.Command("id", "-u")
			cmd.User = "1234"
			out.Reset()
			cmd.Stdout = &out
			_, err = p.Run(t.Context(), cmd)
			require.NoError(t, err)
			require.Equal(t, "1234\n", out.String())
		}
		// Beside one that is beside it.
		inner, err := p.Start(t.Context(), sandbox.Command("sleep", "100000"))
		require.NoError(t, err)
		require.Equal(t, "2", beside(t, inner, "cat /proc/[0-9]*/comm | grep -c sleep"))
		list, err := sb.Processes(t.Context())
		require.NoError(t, err)
		require.Len(t, list, 2)
		require.NoError(t, inner.Signal(syscall.SIGTERM))
		r, err = inner.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, syscall.SIGTERM, r.Signal)
		// What it leaves behind lives on, and ends with the command.
		require.Equal(t, "left", beside(t, p, "sleep 99999 >/dev/null 2>&1 & echo left"))
		require.Equal(t, "99999", beside(t, p, "for c in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$c | grep '^sleep 99' | cut -d' ' -f2; done"))
		require.NoError(t, p.Kill())
		_, err = p.Wait(t.Context())
		require.NoError(t, err)
		_, err = p.Start(t.Context(), sandbox.Command("true"))
		require.ErrorIs(t, err, os.ErrProcessDone)
		require.Equal(t, "1", shell(t, sb, "set -- /proc/[0-9]*; echo $#"), "the next command meets nobody")
	})
}

// When it is killed all of its tree is, but not the command; with the command's end everybody's comes.
func TestExecEnds(t *testing.T) {
	behind(t, func(t *testing.T, init bool) {
		sb := box(t, sandbox.Options{})
		p := session(t, sb, init)
		tree := sandbox.Command("sh", "-c", "setsid sleep 77777 & exec sleep 77777")
		tree.Limits.Wall = 50 * time.Millisecond
		r, err := p.Run(t.Context(), tree)
		require.NoError(t, err)
		require.Equal(t, sandbox.WallLimit, r.Status)
		left := "0"
		if r.Applied.Cgroup == "" {
			left = "1" // an ordinary user without cgroups
		}
		require.Equal(t, left, beside(t, p, "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -c '^77777$' || true"))
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("enough")
		time.AfterFunc(500*time.Millisecond, func() { cancel(cause) })
		r, err = p.Run(ctx, sandbox.Command("sleep", "100000"))
		require.ErrorIs(t, err, cause)
		require.Equal(t, sandbox.Canceled, r.Status)

		other, err := p.Start(t.Context(), sandbox.Command("sleep", "100000"))
		require.NoError(t, err)
		require.NoError(t, p.Kill())
		r, err = other.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, syscall.SIGKILL, r.Signal)
		_, err = p.Wait(t.Context())
		require.NoError(t, err)

		// Starts while it ends: each has a Result or says so.
		for range 10 {
			p := session(t, sb, init)
			var all sync.WaitGroup
			for range 3 {
				all.Go(func() {
					for {
						_, err := p.Run(t.Context(), sandbox.Command("true"))
						if err != nil {
							if !errors.Is(err, os.ErrProcessDone) {
								t.Error(err)
							}
							return
						}
					}
				})
			}
			time.Sleep(time.Millisecond)
			require.NoError(t, p.Kill())
			_, err = p.Wait(t.Context())
			require.NoError(t, err)
			all.Wait()
		}
		p = session(t, sb, init)
		other, err = p.Start(t.Context(), sandbox.Command("sleep", "100000"))
		require.NoError(t, err)
		require.NoError(t, sb.Close())
		_, err = other.Wait(t.Context())
		require.Error(t, err)
		_, err = p.Run(t.Context(), sandbox.Command("true"))
		require.ErrorIs(t, err, os.ErrClosed)
	})
}

// What a command beside another one can't have is an error that names it.
func TestExecInvalid(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		p := session(t, sb, false)
		for field, c := range map[string]*sandbox.Cmd{
			"Cmd.Init":  {Args: []string{"true"}, Init: true},
			"Cmd.Files": {Args: []string{"true"}, Files: []sandbox.File{{Name: "/tmp/x"}}},
			"Cmd.Args":  {},
			"Cmd.Pipes": {Args: []string{"true"}, Pipes: sandbox.PipeStdout},
			"Cmd":       nil,
		} {
			_, err := p.Run(t.Context(), c)
			require.Error(t, err, field)
			if field != "Cmd.Args" {
				require.ErrorContains(t, err, field)
			}
		}
		_, err := p.Run(t.Context(), sandbox.Command("absent"))
		require.ErrorIs(t, err, fs.ErrNotExist)
		long := sandbox.Command("true", strings.Repeat("x", 100000))
		_, err = p.Run(t.Context(), long)
		require.NoError(t, err)
		r, err := p.Run(t.Context(), sandbox.Command("sh", "-c", "kill -9 $$"))
		require.NoError(t, err)
		require.Equal(t, syscall.SIGKILL, r.Signal)
	})
}
