package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox"
)

// notified is a sandbox of which these calls are left to f.
func notified(t testing.TB, profile string, f func(context.Context, *sandbox.Syscall) sandbox.Answer, calls ...string) *sandbox.Sandbox {
	return box(t, sandbox.Options{Security: sandbox.Security{Seccomp: profile, Notify: &sandbox.Notify{Calls: calls, Handle: f}}})
}

// Every kind of Answer is what the call comes to, also of one that the profile refuses.
func TestNotify(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		secret := filepath.Join(t.TempDir(), "secret")
		require.NoError(t, os.WriteFile(secret, []byte("from outside"), 0o600))
		var mu sync.Mutex
		var made []string
		handle := func(_ context.Context, c *sandbox.Syscall) sandbox.Answer {
			switch c.Name {
			case "getcwd":
				return sandbox.Answer{Errno: syscall.EBUSY}
			case "geteuid":
				return sandbox.Answer{Value: 4242}
			case "chmod":
				return sandbox.Answer{Continue: true}
			case "mkdir", "mkdirat":
				at := 0
				if c.Name == "mkdirat" {
					at = 1
				}
				name, err := c.ReadString(c.Args[at], 100)
				mu.Lock()
				defer mu.Unlock()
				made = append(made, fmt.Sprint(name, " ", err))
				return sandbox.Answer{}
			case "openat":
				if name, err := c.ReadString(c.Args[1], 4096); err != nil || name != "/secret" {
					return sandbox.Answer{Continue: true}
				}
				f, err := os.Open(secret)
				if err != nil {
					return sandbox.Answer{Errno: syscall.EIO}
				}
				return sandbox.Answer{File: f}
			}
			return sandbox.Answer{} // mount
		}
		calls := []string{"getcwd", "geteuid", "mkdirat", "openat", "mount"}
		if hasCall(t, "mkdir") { // not on arm64
			calls = append(calls, "mkdir", "chmod")
		}
		for _, profile := range []string{"", "strict", "off"} {
			sb := notified(t, profile, handle, calls...)
			for _, withInit := range []bool{false, true} {
				made = nil
				attempt := func(args ...string) string {
					cmd := attemptCmd(t, args...)
					cmd.Init = withInit
					return output(t, sb, cmd)
				}
				run := func(script string) string {
					return output(t, sb, &sandbox.Cmd{Args: []string{"sh", "-c", script}, Init: withInit})
				}
				require.Equal(t, "EBUSY", attempt("cwd"))
				require.Equal(t, "ok", attempt("call", fmt.Sprint(unix.SYS_MOUNT), "0", "0", "0", "0"))
				require.Equal(t, "4242", run("id -u"))
				require.Equal(t, "from outside", run("cat /secret"))
				require.Equal(t, "absent", run("mkdir /tmp/new && { test -d /tmp/new || echo absent; }"))
				long := make([]byte, 101)
				for i := range long {
					long[i] = 'x'
				}
				run("mkdir /" + string(long))
				require.Equal(t, []string{"/tmp/new <nil>", " " + syscall.ENAMETOOLONG.Error()}, made)
				require.Equal(t, "600", run("touch /tmp/f && chmod 600 /tmp/f && stat -c %a /tmp/f"))
			}
			r, err := sb.Run(t.Context(), sandbox.Command("true"))
			require.NoError(t, err)
			require.Equal(t, calls, r.Applied.Notify)
		}
	})
}

// hasCall says whether this machine has a system call that newer architectures have not.
func hasCall(t testing.TB, name string) bool {
	return !errors.Is(notified(t, "", nothing, name).Prepare(t.Context()), fs.ErrInvalid)
}

func nothing(context.Context, *sandbox.Syscall) sandbox.Answer { return sandbox.Answer{} }

// Many calls at a time are decided on at a time, and each has its own answer.
func TestNotifyMany(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		var calls, most, now atomic.Int64
		sb := notified(t, "", func(context.Context, *sandbox.Syscall) sandbox.Answer {
			calls.Add(1)
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(time.Millisecond)
			now.Add(-1)
			return sandbox.Answer{Continue: true}
		}, "getcwd")
		exe := attemptCmd(t, "cwd")
		exe.Args = []string{"sh", "-c", `for i in $(seq 100); do /proc/self/fd/3 cwd & done; wait`}
		out, err := sb.Output(t.Context(), exe)
		require.NoError(t, err)
		require.Len(t, out, 100*len("ok\n"), "%s", out)
		require.GreaterOrEqual(t, calls.Load(), int64(100))
		require.Greater(t, most.Load(), int64(1))
		require.LessOrEqual(t, most.Load(), int64(64))
	})
}

// A Handle that waits for the end of its ctx keeps nobody: not a limit, not a context, not Kill, not Close.
func TestNotifyEnds(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		asked := make(chan *sandbox.Syscall, 10)
		wait := func(ctx context.Context, c *sandbox.Syscall) sandbox.Answer {
			asked <- c
			<-ctx.Done()
			_, err := c.ReadMemory(c.Args[0], make([]byte, 8))
			require.ErrorIs(t, err, os.ErrProcessDone)
			return sandbox.Answer{}
		}
		sb := notified(t, "", wait, "getcwd")
		cmd := attemptCmd(t, "cwd")
		cmd.Limits.Wall = 50 * time.Millisecond
		r, err := sb.Run(t.Context(), cmd)
		require.NoError(t, err)
		require.Equal(t, sandbox.WallLimit, r.Status)
		<-asked

		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-asked; cancel() }()
		cmd.Limits.Wall = 0
		r, err = sb.Run(ctx, cmd)
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, sandbox.Canceled, r.Status)

		p, err := sb.Start(t.Context(), cmd)
		require.NoError(t, err)
		<-asked
		require.NoError(t, p.Kill())
		r, err = p.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, sandbox.Killed, r.Status)

		p, err = sb.Start(t.Context(), cmd)
		require.NoError(t, err)
		<-asked
		require.NoError(t, sb.Close())
		_, err = p.Wait(t.Context())
		require.ErrorIs(t, err, os.ErrClosed)
	})
}

// What can't be left to a function is said before anything is made.
func TestNotifyRefused(t *testing.T) {
	for _, n := range []sandbox.Notify{
		{Calls: []string{"getcwd"}}, {Handle: nothing}, {Calls: []string{"nosuchcall"}, Handle: nothing}, {Calls: []string{"execve"}, Handle: nothing},
		{Calls: []string{"sendmsg"}, Handle: nothing}, {Calls: []string{"seccomp"}, Handle: nothing}, {Calls: []string{"exit_group"}, Handle: nothing},
	} {
		sb := box(t, sandbox.Options{Security: sandbox.Security{Notify: &n}})
		err := sb.Prepare(t.Context())
		require.ErrorIs(t, err, fs.ErrInvalid, "%v", n.Calls)
		require.ErrorContains(t, err, "Options.Security.Notify", "%v", n.Calls)
	}
}
