//go:build linux

package spawn

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

func TestStart(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		copying(t, func(t *testing.T) {
			testenv.Leaks(t)
			t.Cleanup(Release)
			user, err := newUserNS(t.Context())
			require.NoError(t, err)
			defer user.Close()
			argv := []string{"/bin/sh", "-c", "exit 7"}
			for _, way := range programs(user, argv...) {
				p, err := way.start(t.Context())
				require.NoError(t, err, way.name)
				require.Equal(t, 7, wait(t, p).ExitStatus(), way.name)
			}
		})
	})
}

// Run's program comes back with the descriptors that it sent, in order, and its results.
func TestRun(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		copying(t, func(t *testing.T) {
			testenv.Leaks(t)
			t.Cleanup(Release)
			user, err := newUserNS(t.Context())
			require.NoError(t, err)
			defer user.Close()
			fds, p, err := Run(t.Context(), worldBuild(user))
			require.NoError(t, err)
			defer closeAll(fds)
			require.Len(t, fds, 3)
			for i, want := range []string{`uts:\[`, `anon_inode:\[fscontext\]`, `mnt:\[`} {
				target, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fds[i]))
				require.NoError(t, err)
				require.Regexp(t, want, target)
			}
			require.Equal(t, -int(unix.ECANCELED), p.Result(NoRef))
			require.Equal(t, -int(unix.ECANCELED), p.Result(Ref(len(p.entries)-1)), "exit_group returned")
		})
	})
}

func TestResult(t *testing.T) {
	var parent, bad Ref
	_, p, err := Run(t.Context(), func(p *Program) {
		parent = p.Do("getppid", "", unix.SYS_GETPPID)
		bad = p.Try("close", "", unix.SYS_CLOSE, -1)
	})
	require.NoError(t, err)
	require.Equal(t, os.Getpid(), p.Result(parent))
	require.Equal(t, -int(unix.EBADF), p.Result(bad))
}

// A command's program may have nested children that are joined before its exec: Start returns when the command runs,
// not when it ends.
func TestStartAfterJoin(t *testing.T) {
	testenv.Leaks(t)
	t.Cleanup(Release)
	p, err := Start(t.Context(), Setup{Files: 3}, command(func(p *Program) {
		n := p.Fork(0)
		p.Do("getpid", "", unix.SYS_GETPID)
		p.Join(n)
	}, "/bin/sleep", "1000"))
	require.NoError(t, err)
	require.Equal(t, []int{p.PID}, children(t))
	require.NoError(t, p.Signal(unix.SIGKILL))
	require.Equal(t, unix.SIGKILL, wait(t, p).Signal())
}

// On the caller's own thread: the command lives as long as that, and no other thread is used.
func TestStartHere(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		testenv.Leaks(t)
		t.Cleanup(Release)
		user, err := newUserNS(t.Context())
		require.NoError(t, err)
		defer user.Close()
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for _, build := range []func(*Program){plain("/bin/sh", "-c", "exit 7"), worldCommand(user, "/bin/sh", "-c", "exit 7")} {
			p, err := StartHere(t.Context(), Setup{Files: 3}, build)
			require.NoError(t, err)
			s, err := p.WaitHere()
			require.NoError(t, err)
			require.True(t, s.Known)
			require.Equal(t, 7, s.Status.ExitStatus())
			require.NotNil(t, s.Rusage)
			require.NoError(t, p.Close())
		}
		require.Empty(t, threads.idle)
		p, err := StartHere(t.Context(), Setup{Files: 3}, plain("/bin/sleep", "1000"))
		require.NoError(t, err)
		time.AfterFunc(10*time.Millisecond, func() { p.Signal(unix.SIGTERM) })
		s, err := p.WaitHere()
		require.NoError(t, err)
		require.Equal(t, unix.SIGTERM, s.Status.Signal())
		require.NoError(t, p.Close())
		require.ErrorIs(t, p.Signal(unix.SIGTERM), os.ErrProcessDone)
	})
}

// Every exit status and every fatal signal comes through.
func TestStatus(t *testing.T) {
	testenv.Leaks(t)
	t.Cleanup(Release)
	exit := testenv.C(t, exitSource)
	for code := range 256 {
		p, err := Start(t.Context(), Setup{Files: 3}, plain(exit, "exit", strconv.Itoa(code)))
		require.NoError(t, err)
		require.Equal(t, unix.WaitStatus(code<<8), wait(t, p))
	}
	for sig := 1; sig <= 64; sig++ {
		if !fatal(sig) {
			continue
		}
		p, err := Start(t.Context(), Setup{Files: 3}, plain(exit, "kill", strconv.Itoa(sig)))
		require.NoError(t, err)
		status := wait(t, p)
		require.Equal(t, unix.Signal(sig), status.Signal(), "%#x", status)
		require.True(t, status.Signaled())
	}
}

// exitSource is a program that ends as it is told, and without a core file.
const exitSource = `
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <unistd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
int main(int argc, char **argv) {
	if (argc < 3) return 99;
	if (!strcmp(argv[1], "exit")) _exit(atoi(argv[2]));
	struct rlimit none = {0, 0};
	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_DUMPABLE, 0);
	int sig = atoi(argv[2]);
	sigset_t all;
	sigemptyset(&all);
	sigprocmask(SIG_SETMASK, &all, 0);
	// Not by signal(3): the C library keeps 32 and 33 to itself, and has children of its posix_spawn ignore them.
	long act[4] = {0};
	syscall(SYS_rt_sigaction, sig, act, 0, 8);
	if (sig == 32 || sig == 33) { kill(getpid(), sig); return 98; }
	raise(sig);
	return 97;
}`

// fatal says what signal(7) does by default.
func fatal(sig int) bool {
	switch unix.Signal(sig) {
	case unix.SIGCHLD, unix.SIGCONT, unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGURG, unix.SIGWINCH:
		return false
	}
	return true
}

// Rule 5, second half: PDEATHSIG is bound to the thread that cloned. A goroutine of the embedder's that ends locked to
// its thread ends the thread, and none of our commands with it.
func TestForeignThreadEnds(t *testing.T) {
	testenv.Leaks(t)
	t.Cleanup(Release)
	var ps []*Process
	for range 16 {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			onOwnThread(func() {
				p, err := Start(t.Context(), Setup{Files: 3}, plain("/bin/sleep", "1000"))
				if err != nil {
					t.Error(err)
					return
				}
				ps = append(ps, p)
			})
		}()
		<-ended
	}
	require.Len(t, ps, 16)
	time.Sleep(50 * time.Millisecond)
	for _, p := range ps {
		status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID), "stat"))
		require.NoError(t, err)
		require.NotContains(t, string(status), " Z ")
		require.NoError(t, p.Signal(unix.SIGTERM))
		require.Equal(t, unix.SIGTERM, wait(t, p).Signal())
	}
}
