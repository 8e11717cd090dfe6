//go:build linux

package sandbox_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// tracedThread makes us the tracer of a thread that is not its first, which then ends or not, as the process does.
const tracedThread = `
#include <pthread.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <unistd.h>
static int mode;
static void *thread(void *p) {
	ptrace(PTRACE_TRACEME, 0, 0, 0);
	while (mode == 1) pause();
	return p;
}
int main(int argc, char **argv) {
	pthread_t t;
	mode = atoi(argv[argc - 1]);
	pthread_create(&t, 0, thread, 0);
	usleep(50000);
	while (mode == 2) pause();
	_exit(4);
}`

// siblings makes children of ours, where it is not PID 1 itself.
const siblings = `
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv) {
	int mode = atoi(argv[argc - 1]);
	for (int i = 0; i < 3; i++)
		if (syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0) == 0) {
			if (mode == 1) _exit(7);
			if (mode == 2) { ptrace(PTRACE_TRACEME, 0, 0, 0); raise(SIGSTOP); }
			for (;;) pause();
		}
	usleep(50000);
	return 5;
}`

// A command can make tracees and children of ours, which only we can wait for: its end, and its sandbox's, come all the same.
func TestWedges(t *testing.T) {
	programs := map[string]string{"thread": testenv.C(t, tracedThread), "siblings": testenv.C(t, siblings)}
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		st, root := store(t), rootWith(t, programs)
		for _, name := range []string{"thread", "siblings"} {
			for _, mode := range []string{"0", "1", "2"} {
				sb := sandbox.New(sandbox.Options{Store: st, Rootfs: root})
				for i, c := range bothWays(sandbox.Command("/bin/"+name, mode)) {
					c.Limits.Wall = 300 * time.Millisecond
					ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
					res, err := sb.Run(ctx, c)
					cancel()
					require.NoError(t, err, "%s %s, way %d", name, mode, i)
					require.Contains(t, []sandbox.Status{sandbox.Exited, sandbox.WallLimit}, res.Status)
				}
				c := sandbox.Command("/bin/"+name, mode)
				c.Init = true
				p, err := sb.Start(t.Context(), c)
				require.NoError(t, err)
				time.Sleep(100 * time.Millisecond)
				closes(t, sb)
				_, _ = p.Wait(t.Context())
			}
		}
	})
}

// A tracer can hold up the end of what it traces, that of PID 1 too, where the filter lets it: it is killed then.
func TestTracedExit(t *testing.T) {
	testenv.C(t, clingSource)
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		st, root := store(t), clingRoot(t)
		run := func(way, seccomp string, l sandbox.Limits) *sandbox.Result {
			sb := sandbox.New(sandbox.Options{Store: st, Rootfs: root, Security: sandbox.Security{Seccomp: seccomp}})
			c := sandbox.Command("/bin/cling", way, newMark())
			c.Limits = l
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			res, err := sb.Run(ctx, c)
			require.NoError(t, err, way)
			closes(t, sb)
			return res
		}
		for _, way := range []string{"trace exit", "trace exits"} {
			require.Equal(t, 12, run(way, "", sandbox.Limits{}).ExitCode, "the default filter refuses it")
			require.Equal(t, sandbox.WallLimit, run(way, "docker", sandbox.Limits{Wall: 100 * time.Millisecond}).Status)
		}

		sb := sandbox.New(sandbox.Options{Store: st, Rootfs: root, Security: sandbox.Security{Seccomp: "off"}})
		c := sandbox.Command("/bin/cling", "trace exit", newMark())
		c.Pipes = sandbox.PipeStdout
		p, err := sb.Start(t.Context(), c)
		require.NoError(t, err)
		_, err = p.Stdout.Read(make([]byte, 3))
		require.NoError(t, err)
		closes(t, sb)
		_, _ = p.Wait(t.Context())
	})
}

// What a command beside another one leaves to us, children and tracees, keeps neither it nor that one, whether they are killed or
// end by themselves.
func TestWedgesBeside(t *testing.T) {
	programs := map[string]string{"thread": testenv.C(t, tracedThread), "siblings": testenv.C(t, siblings), "sh": "/bin/busybox"}
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		st, root := store(t), rootWith(t, programs)
		for _, name := range []string{"thread", "siblings"} {
			for _, mode := range []string{"0", "1", "2"} {
				for _, host := range bothWays(sandbox.Command("/bin/sh", "-c", "read line")) {
					sb := sandbox.New(sandbox.Options{Store: st, Rootfs: root})
					host.Pipes = sandbox.PipeStdin
					p, err := sb.Start(t.Context(), host)
					require.NoError(t, err)
					guest, err := p.Start(t.Context(), sandbox.Command("/bin/"+name, mode))
					require.NoError(t, err)
					time.Sleep(100 * time.Millisecond)
					require.NoError(t, p.Stdin.Close()) // the end of the host
					ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
					_, err = p.Wait(ctx)
					require.NoError(t, err, "%s %s, init %v", name, mode, host.Init)
					_, err = guest.Wait(ctx)
					require.NoError(t, err, "%s %s, init %v", name, mode, host.Init)
					cancel()
					closes(t, sb)
				}
			}
		}
	})
}

// closes closes a sandbox, which must not hang.
func closes(t testing.TB, sb *sandbox.Sandbox) {
	t.Helper()
	closed := make(chan error, 1)
	go func() { closed <- sb.Close() }()
	select {
	case err := <-closed:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("Close hangs")
	}
}

// No path of a sandbox leads to the program that embeds it: until the exec that is what /proc/self/exe is.
func TestOwnProgram(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		root := rootWith(t, map[string]string{"sh": "/bin/busybox"})
		require.NoError(t, os.Symlink("/proc/self/exe", filepath.Join(root, "bin/link")))
		writeFile(t, root, "bin/script", "#!/proc/self/exe\n", 0o755)
		writeFile(t, root, "bin/good", "#!/bin/sh\nexit 9\n", 0o755)
		sb := box(t, sandbox.Options{Rootfs: root})
		for _, path := range []string{"/bin/link", "/bin/script", "/proc/self/exe", "/proc/thread-self/exe"} {
			for _, c := range bothWays(sandbox.Command(path)) {
				res, err := sb.Run(t.Context(), c)
				require.Nil(t, res, path)
				require.ErrorIs(t, err, fs.ErrPermission, path)
			}
		}
		res, err := sb.Run(t.Context(), sandbox.Command("/bin/good"))
		require.NoError(t, err)
		require.Equal(t, 9, res.ExitCode)
		// A command may still execute itself, and rename between directories.
		require.Equal(t, "again", shell(t, sb, `mkdir /a /b; >/a/f; mv /a/f /b/ && exec -a sh /proc/self/exe -c "echo again"`))
	})
}

// What a sandbox's /etc/passwd leads to outside of its own files is not read with our rights, nor waited for.
func TestAccountsElsewhere(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		for _, to := range []string{"/proc/kmsg", "/proc/version", "/sys/kernel/uevent_seqnum", "/dev/shm/f"} {
			root := rootWith(t, map[string]string{"sh": "/bin/busybox"})
			require.NoError(t, os.Mkdir(filepath.Join(root, "etc"), 0o755))
			require.NoError(t, os.Symlink(to, filepath.Join(root, "etc/passwd")))
			_, err := box(t, sandbox.Options{Rootfs: root}).Run(t.Context(), sandbox.Command("/bin/sh", "-c", "true"))
			require.ErrorContains(t, err, "/etc/passwd", to)
		}
	})
}
