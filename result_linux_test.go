//go:build linux

package sandbox_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// dies ends by the way that its argument names, or uses what it names.
const dies = `
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int zero;
static int deep(volatile char *above, long n) {
	volatile char here[4096];
	here[0] = here[4095] = n;
	return n == 0 ? 0 : deep(here, n - 1) + here[0] + above[0];
}
static void fill(const char *name) {
	static char b[4096];
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0) _exit(90);
	for (int i = 0; i < 1000; i++)
		if (write(fd, b, sizeof b) < 0) _exit(errno);
	_exit(0);
}
static void die(const char *how, const char *arg) {
	long n = arg ? atol(arg) : 0;
	if (!strcmp(how, "exit")) _exit(n);
	if (!strcmp(how, "segv")) *(volatile int *)8 = 1;
	if (!strcmp(how, "fpe")) { volatile int x = 1000; x /= zero; _exit(x); }
	if (!strcmp(how, "ill")) __builtin_trap();
#if defined(__x86_64__)
	if (!strcmp(how, "trap")) __asm__ volatile("int3");
#else
	if (!strcmp(how, "trap")) __asm__ volatile("brk 0");
#endif
	if (!strcmp(how, "bus")) {
		int fd = memfd_create("x", 0);
		volatile char *p = mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0);
		_exit(*p);
	}
	if (!strcmp(how, "abort")) abort();
	if (!strcmp(how, "raise")) { raise(n); _exit(0); }
	if (!strcmp(how, "deep")) _exit(deep((char[]){0}, n / 4096) & 0);
	if (!strcmp(how, "fill")) fill(arg);
	if (!strcmp(how, "touch")) {
		char *p = mmap(0, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED) _exit(91);
		for (long i = 0; i < n; i += 4096) p[i] = 1;
		_exit(0);
	}
	if (!strcmp(how, "fork")) {
		long ok = 0;
		while (ok < n) {
			pid_t p = fork();
			if (p < 0) break;
			if (p == 0) { pause(); _exit(0); }
			ok++;
		}
		printf("%ld %d\n", ok, errno);
		fflush(stdout);
		_exit(0);
	}
	if (!strcmp(how, "files")) {
		long ok = 0;
		while (open("/dev/null", O_RDONLY) >= 0) ok++;
		printf("%ld %d\n", ok, errno);
		fflush(stdout);
		_exit(0);
	}
	static char b[65536];
	if (!strcmp(how, "flood"))
		while (write(1, b, sizeof b) > 0) ;
	_exit(92);
}
int main(int argc, char **argv) {
	if (argc > 3 && !strcmp(argv[1], "child")) {
		int s;
		if (fork() == 0) die(argv[2], argv[3]);
		wait(&s);
		_exit(WIFSIGNALED(s) ? 128 + WTERMSIG(s) : WEXITSTATUS(s));
	}
	if (argc > 1) die(argv[1], argc > 2 ? argv[2] : 0);
	_exit(93);
}`

// diesRoot is a Rootfs with that program as /bin/d.
func diesRoot(t testing.TB) string {
	return rootWith(t, map[string]string{"d": testenv.C(t, dies)})
}

// withDies is RootAndUser for tests that run the program.
func withDies(t *testing.T, f func(t *testing.T)) {
	testenv.C(t, dies)
	testenv.RootAndUser(t, f)
}

func die(args ...string) *sandbox.Cmd { return sandbox.Command("/bin/d", args...) }

// needs runs a part that needs a cgroup: root has one here, an ordinary user
// must be told what is missing. It returns whether the test goes on.
func needsCgroup(t *testing.T, sb *sandbox.Sandbox, c *sandbox.Cmd) bool {
	if os.Geteuid() == 0 {
		return true
	}
	requireNoCgroup(t, sb, c)
	return false
}

// requireNoCgroup wants the error for limits that this user can't have.
func requireNoCgroup(t *testing.T, sb *sandbox.Sandbox, c *sandbox.Cmd) {
	t.Helper()
	res, err := sb.Run(t.Context(), c)
	require.Nil(t, res)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.Regexp(t, "delegat|root", err.Error(), "the remedy")
}

// bothWays is c as PID 1 and behind an init.
func bothWays(c *sandbox.Cmd) []*sandbox.Cmd {
	behind := *c
	behind.Init = true
	return []*sandbox.Cmd{c, &behind}
}

// Every exit status is told.
func TestExitStatus(t *testing.T) {
	withDies(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{Rootfs: diesRoot(t)})
		for code := range 256 {
			for _, c := range bothWays(die("exit", strconv.Itoa(code))) {
				res, err := sb.Run(t.Context(), c)
				require.NoError(t, err)
				require.Equal(t, sandbox.Exited, res.Status)
				require.Equal(t, code, res.ExitCode)
				require.Zero(t, res.Signal)
				require.Empty(t, res.Hit)
				require.Equal(t, code == 0, res.Err() == nil)
				require.Equal(t, c.Init, res.Applied.Init)
			}
		}
	})
}

// A writerFunc is a Writer by one function.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// The context's end before, during and after the run.
func TestContext(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		require.NoError(t, sb.Prepare(t.Context())) // which is not what the contexts below are to end
		cause := errors.New("had enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		res, err := sb.Run(ctx, sandbox.Command("true"))
		require.Nil(t, res)
		require.ErrorIs(t, err, cause)

		ctx, cancel = context.WithCancelCause(t.Context())
		c := sh("sleep 100 & echo; sleep 100")
		c.Stdout = writerFunc(func(b []byte) (int, error) { cancel(cause); return len(b), nil })
		res, err = sb.Run(ctx, c)
		require.ErrorIs(t, err, cause)
		require.Equal(t, sandbox.Canceled, res.Status)
		require.Equal(t, 128+9, res.ExitCode)

		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		res, err = sb.Run(ctx, sh("sleep 100"))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, sandbox.Canceled, res.Status)

		ctx, cancel = context.WithCancelCause(t.Context())
		res, err = sb.Run(ctx, sh("exit 5"))
		cancel(cause)
		require.NoError(t, err)
		require.Equal(t, "exit status 5", res.String())

		// Start's context bounds the start alone.
		ctx, cancel = context.WithCancelCause(t.Context())
		p, err := sb.Start(ctx, sh("sleep 0.05; exit 6"))
		require.NoError(t, err)
		cancel(cause)
		res, err = p.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, "exit status 6", res.String())
	})
}

// At whatever instant the context ends, the Result and the error agree: not run, ended by itself, or canceled.
func TestContextAtAnyTime(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		mustExit(t, sb, sandbox.Command("true"))
		began := time.Now()
		for range 3 {
			mustExit(t, sb, sandbox.Command("true"))
		}
		step := time.Since(began) / 3 / 100 // from the first instant to three times as long as one takes
		cause := errors.New("had enough")
		seen := map[string]int{}
		for i := 0; i < 300 || len(seen) < 3 && i < 6000; i++ { // more where the machine was slow just when we looked
			ctx, cancel := context.WithCancelCause(t.Context())
			stop := time.AfterFunc(time.Duration(i%300)*step/time.Duration(1+i/300), func() { cancel(cause) })
			res, err := sb.Run(ctx, sandbox.Command("true"))
			stop.Stop()
			cancel(nil)
			switch {
			case res == nil:
				require.ErrorIs(t, err, cause)
				seen["not run"]++
			case res.Status == sandbox.Canceled:
				require.ErrorIs(t, err, cause)
				seen["canceled"]++
			default:
				require.NoError(t, err)
				require.Equal(t, "exit status 0", res.String())
				seen["ended"]++
			}
		}
		require.Len(t, seen, 3, "%v: want each", seen)
	})
}

// Close during Run kills it and says so, also when the command is only being started; Run after Close is os.ErrClosed.
func TestCloseDuringRun(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		st := store(t)
		for i := range 12 {
			sb := sandbox.New(sandbox.Options{Store: st})
			require.NoError(t, sb.Prepare(t.Context()))
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					res, err := sb.Run(t.Context(), sh("sleep 100"))
					if !errors.Is(err, os.ErrClosed) || res != nil && res.Status != sandbox.Killed {
						t.Errorf("%v, %v", res, err)
					}
				})
			}
			time.Sleep(time.Duration(i) * 500 * time.Microsecond)
			require.NoError(t, sb.Close())
			wg.Wait()
		}
	})
}

// Each figure says how it was measured. Without a cgroup it is what wait4(2) tells, or unknown.
func TestUsage(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		res := mustExit(t, sb, sh("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"))
		u := res.Usage
		require.Equal(t, sandbox.FromClock, u.WallSource)
		require.Greater(t, u.Wall, 10*time.Millisecond)
		require.Greater(t, u.User+u.System, 10*time.Millisecond)
		require.LessOrEqual(t, u.User+u.System, u.Wall*11/10+50*time.Millisecond)
		require.Equal(t, sandbox.FromRusage, u.CPUSource)
		require.Equal(t, sandbox.NotMeasured, u.MemorySource)
		require.Zero(t, u.MemoryPeak)
		require.Equal(t, sandbox.NotMeasured, u.PIDsSource)
		require.Empty(t, res.Applied.Cgroup)
		if os.Geteuid() != 0 {
			return
		}
		sb = box(t, sandbox.Options{Limits: sandbox.Limits{PIDs: 64}})
		res = mustExit(t, sb, sh("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"))
		u = res.Usage
		require.Equal(t, sandbox.FromCgroup, u.CPUSource)
		require.Equal(t, keepsPeak(t), u.MemorySource == sandbox.FromCgroup)
		require.Equal(t, keepsPeak(t), u.MemoryPeak > 100<<10)
		require.NotEmpty(t, res.Applied.Cgroup)
		// A grandchild that nobody waited for is counted too.
		res = mustExit(t, sb, sh("(i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; >/tmp/done) & while ! test -e /tmp/done; do sleep 0.01; done; exit 0"))
		require.Greater(t, res.Usage.User+res.Usage.System, 50*time.Millisecond)
	})
}

// An embedder that reaps whatever child it has takes the status away; the kernel's record of it, or Lost, is told.
func TestStolenStatus(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		if !inChild(t) {
			return
		}
		sb := box(t, sandbox.Options{})
		require.NoError(t, sb.Prepare(t.Context()))
		stop := make(chan struct{})
		var reaper sync.WaitGroup
		reaper.Go(func() {
			for {
				var ws unix.WaitStatus
				_, _ = unix.Wait4(-1, &ws, unix.WNOHANG, nil)
				select {
				case <-stop:
					return
				default:
				}
			}
		})
		known := 0
		for i := range 50 {
			res, err := sb.Run(t.Context(), bothWays(sh("exit 7"))[i%2])
			if res.Status == sandbox.Lost {
				require.ErrorContains(t, err, "took the command's exit status")
				require.Equal(t, -1, res.ExitCode)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, "exit status 7", res.String())
			known++
		}
		close(stop)
		reaper.Wait()
		if tellsExit() {
			require.Equal(t, 50, known, "PIDFD_GET_INFO tells")
		}
	})
}

// tellsExit says whether a pidfd tells how a process ended that somebody else has waited for (PIDFD_INFO_EXIT, 6.15).
func tellsExit() bool {
	fd := -1
	cmd := exec.Command("true")
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &fd}
	if cmd.Run() != nil || fd < 0 {
		return false
	}
	defer unix.Close(fd)
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	return unix.IoctlPidfdInfo(fd, &info) == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0
}

// A command that can't be executed is an error that says where it was looked for, and why not.
func TestNotExecuted(t *testing.T) {
	program := testenv.C(t, dies)
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		root := rootWith(t, map[string]string{"d": program})
		write := func(name, text string, mode os.FileMode) {
			require.NoError(t, os.WriteFile(filepath.Join(root, name), []byte(text), mode))
		}
		write("bin/plain", "echo hello\n", 0o755)
		write("bin/mode", "#!/bin/d\n", 0o644)
		write("bin/interpreter", "#!/no/such/shell\n", 0o755)
		write("bin/elf", "\x7fELF\x02\x01\x01 and no more", 0o755)
		write("bin/empty", "", 0o755)
		write("bin/loop", "#!/bin/loop\n", 0o755)
		require.NoError(t, os.Mkdir(filepath.Join(root, "bin/dir"), 0o755))
		require.NoError(t, os.Mkdir(filepath.Join(root, "sub"), 0o755))
		require.NoError(t, os.Symlink("../bin/d", filepath.Join(root, "sub/prog")))
		sb := box(t, sandbox.Options{Rootfs: root})
		for name, tt := range map[string]struct {
			cmd  *sandbox.Cmd
			is   []error
			text string
		}{
			"not in PATH": {&sandbox.Cmd{Args: []string{"nothing"}, Env: []string{"PATH=/bin:/sub"}},
				[]error{exec.ErrNotFound, fs.ErrNotExist}, `"/bin/nothing" "/sub/nothing"`},
			"absolute":              {sandbox.Command("/bin/nothing"), []error{exec.ErrNotFound, fs.ErrNotExist}, `"/bin/nothing"`},
			"below a file":          {sandbox.Command("/bin/d/x"), []error{unix.ENOTDIR}, `"/bin/d/x"`},
			"not executable":        {sandbox.Command("/bin/mode"), []error{fs.ErrPermission}, `"/bin/mode"`},
			"found, not executable": {sandbox.Command("mode"), []error{fs.ErrPermission}, `"/bin/mode"`},
			"directory":             {sandbox.Command("/bin/dir"), []error{fs.ErrPermission}, `"/bin/dir"`},
			"no interpreter":        {sandbox.Command("interpreter"), []error{unix.ENOENT}, "interpreter or dynamic loader"},
			"bad ELF":               {sandbox.Command("elf"), []error{unix.ENOEXEC}, `"/bin/elf"`},
			"text without #!":       {sandbox.Command("plain"), []error{unix.ENOEXEC}, `"/bin/plain"`},
			"empty":                 {sandbox.Command("empty"), []error{unix.ENOEXEC}, `"/bin/empty"`},
			"its own interpreter":   {sandbox.Command("loop"), []error{unix.ELOOP}, `"/bin/loop"`},
			"no PATH":               {&sandbox.Cmd{Args: []string{"d"}, Env: []string{"PATH="}}, []error{fs.ErrInvalid}, "Cmd.Env: "},
			"PATH of relatives":     {&sandbox.Cmd{Args: []string{"d"}, Env: []string{"PATH=.:bin"}}, []error{fs.ErrInvalid}, "Cmd.Env: "},
			"no Args":               {&sandbox.Cmd{}, []error{fs.ErrInvalid}, "Cmd.Args: "},
			"no Dir":                {&sandbox.Cmd{Args: []string{"d"}, Dir: "/no/such"}, []error{fs.ErrNotExist}, `chdir "/no/such"`},
			"Dir a file":            {&sandbox.Cmd{Args: []string{"d"}, Dir: "/bin/d"}, []error{unix.ENOTDIR}, `chdir "/bin/d"`},
			"relative, not there":   {&sandbox.Cmd{Args: []string{"./nothing"}, Dir: "/sub"}, []error{exec.ErrNotFound}, `"./nothing"`},
		} {
			for _, c := range bothWays(tt.cmd) {
				res, err := sb.Run(t.Context(), c)
				require.Nil(t, res, name)
				var e *sandbox.Error
				require.ErrorAs(t, err, &e, name)
				for _, want := range tt.is {
					require.ErrorIs(t, err, want, name)
				}
				require.ErrorContains(t, err, tt.text, name)
				require.Equal(t, "run", e.Op)
			}
		}
		_, err := sb.Run(t.Context(), sandbox.Command("interpreter"))
		require.NotErrorIs(t, err, exec.ErrNotFound, "it is there")
		res, err := sb.Run(t.Context(), &sandbox.Cmd{Args: []string{"./prog", "exit", "3"}, Dir: "/sub"})
		require.NoError(t, err)
		require.Equal(t, "exit status 3", res.String())
	})
}

// A Dir is made where it is only a default, and must be there where it was asked for.
func TestDir(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{Dir: "/tmp"})
		for dir, want := range map[string]string{"": "/tmp\n", "/usr/bin": "/usr/bin\n"} {
			c := sh("pwd -P")
			c.Dir = dir
			out, err := sb.Output(t.Context(), c)
			require.NoError(t, err)
			require.Equal(t, want, string(out))
		}
		_, err := box(t, sandbox.Options{Dir: "/tmp/none"}).Output(t.Context(), sh("pwd"))
		require.ErrorIs(t, err, fs.ErrNotExist)
	})
}

// Who returns from Close may rely on it, also where another call does the work.
func TestCloseTogether(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		st := store(t)
		for range 10 {
			sb := sandbox.New(sandbox.Options{Store: st})
			require.NoError(t, sb.Prepare(t.Context()))
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					err := sb.Close()
					all, lerr := st.Sandboxes(t.Context())
					if err != nil || lerr != nil || len(all) != 0 {
						t.Errorf("%v, %v, %v", err, all, lerr)
					}
				})
			}
			wg.Wait()
		}
	})
}

// PTRACE_TRACEME makes the embedder the command's tracer, to whom the kernel reports stops. They are no end: the command
// is killed, with all that it started.
func TestTraceMe(t *testing.T) {
	prog := testenv.C(t, `
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <unistd.h>
int main(void) {
	prctl(PR_SET_PDEATHSIG, 0);
	ptrace(PTRACE_TRACEME, 0, 0, 0);
	if (fork() == 0) for (;;) pause();
	raise(SIGSTOP);
	return 0;
}`)
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		root := rootWith(t, map[string]string{"prog": prog})
		sb := box(t, sandbox.Options{Rootfs: root})
		for range 5 {
			for _, c := range bothWays(sandbox.Command("/bin/prog")) {
				res, err := sb.Run(t.Context(), c)
				require.NoError(t, err)
				require.Equal(t, []any{sandbox.Signaled, syscall.SIGKILL}, []any{res.Status, res.Signal})
			}
			p, err := sb.Start(t.Context(), sandbox.Command("/bin/prog"))
			require.NoError(t, err)
			wait, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			_, err = p.Wait(wait)
			cancel()
			if err != nil { // it stopped after the look at its state: it waits, and can be killed
				require.NoError(t, p.Kill())
				_, err = p.Wait(t.Context())
				require.NoError(t, err)
			}
		}
	})
}
