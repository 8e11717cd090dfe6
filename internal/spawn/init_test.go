//go:build linux

package spawn

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// newInit makes an init as internal/world does.
func newInit(ctx context.Context, user, file *os.File, namespaces uint64) (*Init, error) {
	return StartInit(ctx, Setup{Files: 1, Namespaces: namespaces}, func(p *Program) {
		in, own := p.Input(int(file.Fd())), p.OwnNamespaces()
		p.Do("setns", "user namespace", unix.SYS_SETNS, p.Input(int(user.Fd())), unix.CLONE_NEWUSER)
		if !p.Born() {
			p.Do("unshare", "PID namespace", unix.SYS_UNSHARE, unix.CLONE_NEWPID)
			p.ForkCommand(0, NoRef)
		}
		p.SetIDs(insideRoot())
		p.ExecInit(in, own)
	})
}

// starting is Start or StartHere.
type starting func(context.Context, Setup, func(*Program)) (*Process, error)

// behind starts a command behind an init, in what internal/world's have of what this package is about: a PID namespace
// whose PID 1 is the init, and a /proc of it.
func (start starting) behind(ctx context.Context, user, file *os.File, namespaces uint64, stdio []int, argv ...string) (*Process, error) {
	init, err := newInit(ctx, user, file, namespaces)
	if err != nil {
		return nil, err
	}
	p, err := start(ctx, Setup{Files: 3, Namespaces: namespaces, Init: init}, inNamespace(user, stdio, argv...))
	if err != nil {
		CloseInits(init)
	}
	return p, err
}

func behindInit(ctx context.Context, user *os.File, argv ...string) (*Process, error) {
	return starting(Start).behind(ctx, user, initFile, pidNamespace(), []int{0, 1, 2}, argv...)
}

// pidNamespace has a first child be born in a PID namespace where that is allowed.
func pidNamespace() uint64 {
	if os.Geteuid() == 0 {
		return unix.CLONE_NEWPID
	}
	return 0
}

// asPID1 is the same without an init.
func asPID1(user *os.File, argv ...string) func(*Program) {
	return inNamespace(user, []int{0, 1, 2}, argv...)
}

func inNamespace(user *os.File, stdio []int, argv ...string) func(*Program) {
	return func(p *Program) {
		var in []Ref
		for _, fd := range stdio {
			in = append(in, p.Input(fd))
		}
		enter := func() {
			p.Do("setns", "user namespace", unix.SYS_SETNS, p.Input(int(user.Fd())), unix.CLONE_NEWUSER)
		}
		switch {
		case p.born:
			p.Do("unshare", "mount namespace", unix.SYS_UNSHARE, unix.CLONE_NEWNS)
			p.Do("mount private", "/", unix.SYS_MOUNT, 0, "/", 0, unix.MS_REC|unix.MS_PRIVATE, 0)
			mountProc(p)
			enter()
		case p.setup.Init != nil:
			pids := p.PIDNamespace()
			enter()
			p.Do("unshare", "mount namespace", unix.SYS_UNSHARE, unix.CLONE_NEWNS)
			p.Do("setns", "PID namespace", unix.SYS_SETNS, pids, unix.CLONE_NEWPID)
			p.ForkCommand(0, NoRef)
		default:
			enter()
			p.Do("unshare", "mount namespace", unix.SYS_UNSHARE, unix.CLONE_NEWNS)
			p.ForkCommand(unix.CLONE_NEWPID, NoRef)
		}
		p.SetIDs(insideRoot())
		if !p.born {
			mountProc(p)
		}
		for i, fd := range in {
			p.Do("dup3", "", unix.SYS_DUP3, fd, i, 0)
		}
		p.CloseFrom(3)
		finish(p, argv...)
	}
}

func mountProc(p *Program) {
	fs := p.Do("fsopen", "proc", unix.SYS_FSOPEN, "proc", unix.FSOPEN_CLOEXEC)
	p.Do("fsconfig", "proc", unix.SYS_FSCONFIG, fs, unix.FSCONFIG_CMD_CREATE, 0, 0, 0)
	m := p.Do("fsmount", "proc", unix.SYS_FSMOUNT, fs, unix.FSMOUNT_CLOEXEC, 0)
	p.Do("move_mount", "/proc", unix.SYS_MOVE_MOUNT, m, "", unix.AT_FDCWD, "/proc", unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// withInit is RootAndUser, both ways to get at descriptors, with a user namespace, for tests that use the given C programs.
func withInit(t *testing.T, f func(t *testing.T, user *os.File), programs ...string) {
	for _, source := range programs {
		testenv.C(t, source)
	}
	testenv.RootAndUser(t, func(t *testing.T) {
		copying(t, func(t *testing.T) {
			testenv.Leaks(t)
			t.Cleanup(Release)
			user, err := newUserNS(t.Context())
			require.NoError(t, err)
			defer user.Close()
			f(t, user)
		})
	})
}

// Behind an init every exit status and every signal that a command sends itself come through, as without a PID
// namespace; as PID 1 it ignores them.
func TestInitStatus(t *testing.T) {
	withInit(t, func(t *testing.T, user *os.File) {
		exit := testenv.C(t, exitSource)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for code := range 256 {
			p, err := starting(StartHere).behind(t.Context(), user, initFile, pidNamespace(), []int{0, 1, 2}, exit, "exit", strconv.Itoa(code))
			require.NoError(t, err)
			s, err := p.WaitHere()
			require.NoError(t, err)
			require.Equal(t, State{Status: unix.WaitStatus(code << 8), Known: true, Rusage: s.Rusage}, s)
			require.NotNil(t, s.Rusage)
			require.NoError(t, p.Close())
		}
		for sig := 1; sig <= 64; sig++ {
			if !fatal(sig) {
				continue
			}
			p, err := behindInit(t.Context(), user, exit, "kill", strconv.Itoa(sig))
			require.NoError(t, err)
			require.Equal(t, unix.Signal(sig), wait(t, p).Signal())
			p, err = Start(t.Context(), Setup{Files: 3}, asPID1(user, exit, "kill", strconv.Itoa(sig)))
			require.NoError(t, err)
			require.False(t, wait(t, p).Signaled() && sig != int(unix.SIGSEGV), "signal %d ended PID 1", sig)
		}
	}, exitSource)
}

// The init holds nothing and lets no signal in but those that end or stop it; it is root of its user namespace with
// all capabilities. The command is as without it, but for its pid.
func TestInitAttributes(t *testing.T) {
	withInit(t, func(t *testing.T, user *os.File) {
		p, out := ready(t, user, initFile, "/bin/sh", "-c", "echo $$ $PPID; exec sleep 1000")
		require.Equal(t, "2 0", out)
		status := procStatus(t, p.init.PID)
		ignored, err := strconv.ParseUint(status["SigIgn"], 16, 64)
		require.NoError(t, err)
		// A C library's posix_spawn, as make(1) uses it, leaves us these ignored.
		ignored &^= 1<<(32-1) | 1<<(33-1)
		status["SigIgn"] = fmt.Sprintf("%016x", ignored)
		for name, want := range map[string]string{
			"Name": "init", "State": "S (sleeping)", "PPid": strconv.Itoa(os.Getpid()), "NoNewPrivs": "1", "Threads": "1",
			"SigPnd": "0000000000000000", "SigBlk": "0000000000000000", "SigCgt": "0000000000000000",
			"SigIgn": fmt.Sprintf("%016x", 1<<(unix.SIGCHLD-1)), "CapPrm": status["CapBnd"], "CapInh": "0000000000000000",
		} {
			require.Equal(t, want, status[name], name)
		}
		require.Contains(t, procStatus(t, p.PID)["NSpid"], "\t2")
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.init.PID))
		require.NoError(t, err)
		require.Empty(t, fds)
		sid, err := unix.Getsid(p.init.PID)
		require.NoError(t, err)
		require.Equal(t, p.init.PID, sid)

		for sig := 1; sig <= 64; sig++ { // also from outside, but for these
			if s := unix.Signal(sig); s != unix.SIGKILL && s != unix.SIGSTOP {
				require.NoError(t, p.init.Signal(s))
			}
		}
		require.NoError(t, p.init.Signal(unix.SIGSTOP)) // whoever is so silly: it ends nevertheless
		require.NoError(t, p.Kill())
		require.Equal(t, unix.SIGKILL, wait(t, p).Signal())
		require.ErrorIs(t, p.Kill(), os.ErrProcessDone)
	})
}

// dumpableSource is an init that says in its name whether it is dumpable.
const dumpableSource = `
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(void) {
	char name[16];
	snprintf(name, sizeof name, "dumpable %d", prctl(PR_GET_DUMPABLE));
	prctl(PR_SET_NAME, name);
	for (;;) pause();
}`

// The exec of a file that can't be read makes the init not dumpable: there is no instant in which it could be reached.
func TestInitNotDumpable(t *testing.T) {
	withInit(t, func(t *testing.T, user *os.File) {
		for mode, want := range map[uint32]string{0o111: "dumpable 0", 0o755: "dumpable 1"} {
			program, err := os.ReadFile(testenv.C(t, dumpableSource))
			require.NoError(t, err)
			fd, err := unix.MemfdCreate("init", unix.MFD_CLOEXEC)
			require.NoError(t, err)
			init := os.NewFile(uintptr(fd), "init")
			defer init.Close()
			_, err = init.Write(program)
			require.NoError(t, err)
			require.NoError(t, unix.Fchmod(fd, mode))
			p, err := starting(Start).behind(t.Context(), user, init, pidNamespace(), []int{0, 1, 2}, "/bin/sleep", "1000")
			require.NoError(t, err)
			eventually(t, "the init runs", func() bool { return strings.HasPrefix(procStatus(t, p.init.PID)["Name"], "dump") })
			require.Equal(t, want, procStatus(t, p.init.PID)["Name"])
			require.NoError(t, p.Kill())
			wait(t, p)
		}
	}, dumpableSource)
}

// Of a command's cgroup the init is no part, in which the command is born (CLONE_INTO_CGROUP).
func TestInitCgroup(t *testing.T) {
	testenv.Root(t)
	testenv.Leaks(t)
	t.Cleanup(Release)
	user, err := newUserNS(t.Context())
	require.NoError(t, err)
	defer user.Close()
	dir, err := os.MkdirTemp(unified(t), "sandbox-test-"+strconv.Itoa(os.Getpid())+"-")
	require.NoError(t, err)
	defer eventually(t, "rmdir "+dir, func() bool { return os.Remove(dir) == nil })
	f, err := os.Open(dir)
	require.NoError(t, err)
	defer f.Close()
	for _, namespaces := range []uint64{unix.CLONE_NEWPID, 0} { // born in it, or its child is
		init, err := newInit(t.Context(), user, initFile, namespaces)
		require.NoError(t, err)
		s := Setup{Files: 3, Namespaces: namespaces, Init: init, Cgroup: f}
		p, err := Start(t.Context(), s, func(p *Program) {
			if !p.Born() {
				cgroup := p.Input(int(f.Fd()))
				p.Do("setns", "PID namespace", unix.SYS_SETNS, p.PIDNamespace(), unix.CLONE_NEWPID)
				p.ForkCommand(0, cgroup)
			}
			finish(p, "/bin/sleep", "1000")
		})
		require.NoError(t, err)
		procs, err := os.ReadFile(dir + "/cgroup.procs")
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(p.PID)+"\n", string(procs))
		require.NoError(t, p.Kill())
		wait(t, p)
	}
}

// Signals are the command's: it is stopped, goes on, and dies of what it does not handle.
func TestInitSignals(t *testing.T) {
	withInit(t, func(t *testing.T, user *os.File) {
		p, _ := ready(t, user, initFile, "/bin/sh", "-c", "echo x; exec sleep 1000")
		state := func(want string) func() bool {
			return func() bool { return strings.HasPrefix(procStatus(t, p.PID)["State"], want) }
		}
		require.NoError(t, p.Signal(unix.SIGSTOP))
		eventually(t, "it is stopped", state("T"))
		require.NoError(t, p.Signal(unix.SIGCONT))
		eventually(t, "it goes on", state("S"))
		require.NoError(t, p.Signal(unix.SIGTERM))
		require.Equal(t, unix.SIGTERM, wait(t, p).Signal())
		require.ErrorIs(t, p.Signal(unix.SIGTERM), os.ErrProcessDone)
	})
}

// orphansSource leaves as many orphans as it is told, which end at once, and prints how many zombies /proc then has.
const orphansSource = `
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static int zombies(void) {
	int n = 0;
	DIR *d = opendir("/proc");
	for (struct dirent *e; d && (e = readdir(d));) {
		char name[300], line[300] = "";
		if (atoi(e->d_name) == 0) continue;
		snprintf(name, sizeof name, "/proc/%s/stat", e->d_name);
		FILE *f = fopen(name, "r");
		if (!f) continue;
		if (fgets(line, sizeof line, f) && strstr(line, ") Z ")) n++;
		fclose(f);
	}
	closedir(d);
	return n;
}
int main(int argc, char **argv) {
	int ends[2];
	char c;
	if (pipe(ends)) return 1;
	for (int i = 0, n = atoi(argv[1]); i < n; i++) {
		pid_t p = fork();
		if (p < 0) return 2;
		if (p == 0) {
			if (fork() < 0) _exit(1);
			_exit(0); // the grandchild outlives it, or not
		}
		waitpid(p, 0, 0);
	}
	close(ends[1]);
	while (read(ends[0], &c, 1) > 0) ; // all have closed it: they have ended, or are about to
	int n = zombies();
	for (int i = 0; i < atoi(argv[2]) && n > 0; i++) { usleep(1000); n = zombies(); } // milliseconds to wait for the last
	printf("%d\n", n);
	return 0;
}`

// A bomb of zombies leaves none, since the init ignores them away. Without an init they stay with the command.
func TestInitReaps(t *testing.T) {
	withInit(t, func(t *testing.T, user *os.File) {
		orphans := testenv.C(t, orphansSource)
		p, out := ready(t, user, initFile, orphans, "2000", "100")
		require.Equal(t, "0", out)
		require.Equal(t, unix.WaitStatus(0), wait(t, p))
		p, out = ready(t, user, nil, orphans, "20", "50")
		require.Equal(t, "20", out)
		require.Equal(t, unix.WaitStatus(0), wait(t, p))
	}, orphansSource)
}

// What the command leaves behind is gone when Wait returns, whatever it ignores.
func TestInitEnds(t *testing.T) {
	withInit(t, func(t *testing.T, user *os.File) {
		mark := fmt.Sprintf("%s=%d-%d", markEnv, os.Getpid(), time.Now().UnixNano())
		left := mark + ` setsid sh -c 'trap "" HUP INT TERM; sleep 1000 & echo ready; sleep 1000' & `
		p, _ := ready(t, user, initFile, "/bin/sh", "-c", left+"read x; exit 3")
		require.NotEmpty(t, processesWith(mark))
		require.Equal(t, 3, wait(t, p).ExitStatus())
		require.Empty(t, processesWith(mark))
	})
}

// That a command can't be executed is told as without an init, and nothing is left.
func TestInitExecError(t *testing.T) {
	withInit(t, func(t *testing.T, user *os.File) {
		dir := t.TempDir()
		require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
		require.NoError(t, os.Chmod(dir, 0o755))
		for name, c := range map[string]struct {
			text string
			mode os.FileMode
			want error
		}{
			"missing":     {"", 0, exec.ErrNotFound},
			"forbidden":   {"#!/bin/sh\n", 0o644, fs.ErrPermission},
			"garbage":     {"\x7fELF", 0o755, unix.ENOEXEC},
			"interpreter": {"#!/no/such/interpreter\n", 0o755, unix.ENOENT},
		} {
			path := filepath.Join(dir, name)
			if c.mode != 0 {
				require.NoError(t, os.WriteFile(path, []byte(c.text), c.mode))
				require.NoError(t, os.Chmod(path, c.mode))
			}
			_, err := behindInit(t.Context(), user, path)
			_, without := Start(t.Context(), Setup{Files: 3}, asPID1(user, path))
			require.ErrorIs(t, err, c.want, name)
			require.Equal(t, without, err, name)
			require.Empty(t, children(t), name)
		}
		_, err := newInit(t.Context(), user, user /* no program */, pidNamespace())
		var e *Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, Error{Op: "execveat", Path: "init", Errno: unix.EACCES}, *e)
		require.Empty(t, children(t))
	})
}

// An init that is killed at any instant before the command is executed is an error, never a command.
func TestInitKilledAtEachStep(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		testenv.Leaks(t)
		t.Cleanup(Release)
		killed := 0
		eachStep(t, func(cancel func()) {
			for _, pid := range children(t) {
				if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); string(comm) == "init\n" {
					killed++
					require.NoError(t, unix.Kill(pid, unix.SIGKILL))
				}
			}
			if len(childrenIn(t, "S")) > 0 {
				cancel()
			}
		}, func(t *testing.T, err error, msg string) {
			var e *Error
			if !errors.Is(err, errCause) {
				require.ErrorAs(t, err, &e, msg)
				require.True(t, e.Killed, msg)
			}
		})
		require.Greater(t, killed, 10)
	})
}

// ready starts a command, behind an init if there is one, and returns the first line that it prints. Its standard input
// ends after that.
func ready(t *testing.T, user, init *os.File, argv ...string) (*Process, string) {
	t.Helper()
	in, hold, err := os.Pipe()
	require.NoError(t, err)
	defer hold.Close()
	r, out, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	stdio := []int{int(in.Fd()), int(out.Fd()), 2}
	var p *Process
	if init != nil {
		p, err = starting(Start).behind(t.Context(), user, init, pidNamespace(), stdio, argv...)
	} else {
		p, err = Start(t.Context(), Setup{Files: 3}, inNamespace(user, stdio, argv...))
	}
	in.Close()
	out.Close()
	require.NoError(t, err)
	line, err := bufio.NewReader(r).ReadString('\n')
	require.NoError(t, err)
	return p, strings.TrimSuffix(line, "\n")
}

// procStatus is /proc/PID/status.
func procStatus(t *testing.T, pid int) map[string]string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	all := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":\t")
		all[name] = value
	}
	return all
}

// stubbornSource clears what would end it with its embedder, and lives on.
const stubbornSource = `
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(void) {
	prctl(PR_SET_PDEATHSIG, 0);
	puts("ready");
	fflush(stdout);
	for (;;) pause();
}`

// A command can clear its own PR_SET_PDEATHSIG. Behind an init it ends with the embedder nevertheless; as PID 1 it lives.
func TestInitStubborn(t *testing.T) {
	testenv.C(t, stubbornSource)
	testenv.RootAndUser(t, func(t *testing.T) {
		stubborn := testenv.C(t, stubbornSource)
		for with, lives := range map[string]bool{"init": false, "": true} {
			mark := fmt.Sprintf("%s=%d-%d", markEnv, os.Getpid(), time.Now().UnixNano())
			cmd := embedder(t, "stubborn", stubborn, with)
			cmd.Env = append(cmd.Env, mark)
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			line, err := bufio.NewReader(out).ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "ready\n", line)
			require.Len(t, processesWith(mark), 2)
			require.NoError(t, cmd.Process.Kill())
			_ = cmd.Wait()
			if lives {
				time.Sleep(100 * time.Millisecond)
				left := processesWith(mark)
				require.Len(t, left, 1)
				require.NoError(t, unix.Kill(left[0], unix.SIGKILL))
			}
			eventually(t, "all have ended", func() bool { return len(processesWith(mark)) == 0 })
		}
	})
}

// startStubborn is the embedder of that, which is killed.
func startStubborn(args []string) error {
	user, err := newUserNS(context.Background())
	if err != nil {
		return err
	}
	if args[1] != "" {
		_, err = behindInit(context.Background(), user, args[0])
	} else {
		_, err = Start(context.Background(), Setup{Files: 3}, asPID1(user, args[0]))
	}
	if err != nil {
		return err
	}
	select {}
}
