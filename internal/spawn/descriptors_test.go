//go:build linux

package spawn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// vandal is a program that does to its descriptors all that it can.
func vandal(p *Program) {
	null := p.Do("fcntl", "", unix.SYS_FCNTL, open(p, "/dev/null"), unix.F_DUPFD, 30)
	for i := range 40 {
		p.Try("close", "", unix.SYS_CLOSE, 60+i)
	}
	n := p.Fork(0)
	p.Do("open", "/", unix.SYS_OPENAT, unix.AT_FDCWD, "/", unix.O_RDONLY, 0)
	p.Do("fcntl", "", unix.SYS_FCNTL, 0, unix.F_SETFD, unix.FD_CLOEXEC)
	p.Join(n)
	for i := range 3 {
		p.Do("dup3", "", unix.SYS_DUP3, null, i, 0)
	}
	p.Do("dup3", "", unix.SYS_DUP3, null, 50, 0)
	p.Do("close_range", "", unix.SYS_CLOSE_RANGE, 0, int(^uint32(0)), 0)
	p.Do("open", "/dev/zero", unix.SYS_OPENAT, unix.AT_FDCWD, "/dev/zero", unix.O_RDWR, 0)
}

// Rule 6: nothing that a program does is done to the embedder's descriptors, in whatever step it is killed.
func TestTableIsPrivate(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		copying(t, func(t *testing.T) {
			testenv.Leaks(t)
			t.Cleanup(Release)
			warm(t)
			for i := range 40 { // what the vandal closes
				require.NoError(t, unix.Dup3(0, 60+i, unix.O_CLOEXEC))
				defer unix.Close(60 + i)
			}
			before := table(t)
			vandals := kind{"vandal", 0, func(ctx context.Context) (*Process, error) {
				_, _, err := Run(ctx, vandal)
				return nil, err
			}}
			defer SetHook(nil)
			calls := countCalls(t, vandals)
			require.Equal(t, before, table(t))
			for n := range calls {
				ctx, cancel := context.WithCancelCause(t.Context())
				SetHook(&Hook{PauseAt: n})
				ended := make(chan error, 1)
				go func() { _, _, err := Run(ctx, vandal); ended <- err }()
				require.True(t, paused(t, ended))
				during := table(t)
				for fd, what := range during { // the child's own pidfd is there
					if before[fd] == "" && strings.HasPrefix(what, "anon_inode:[pidfd]") {
						delete(during, fd)
					}
				}
				require.Equal(t, before, during, "while it waits before call %d", n)
				cancel(errCause)
				require.Equal(t, errCause, <-ended)
				require.Equal(t, before, table(t), "after call %d", n)
			}
		})
	})
}

// Rule 6: with very many descriptors, all to be inherited, a command has its own three.
func TestManyDescriptors(t *testing.T) {
	testenv.Leaks(t)
	t.Cleanup(Release)
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	const many = 10_000
	require.Greater(t, limit.Cur, uint64(many+500), "the hard limit (ulimit -Hn) is too low for this test")
	var fds []int
	defer func() { closeAll(fds) }()
	for range many {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD, 0) // not close-on-exec
		require.NoError(t, err)
		fds = append(fds, fd)
	}
	copying(t, func(t *testing.T) {
		storm(t, 1)
		r, w, err := os.Pipe()
		require.NoError(t, err)
		defer r.Close()
		p, err := Start(t.Context(), Setup{Files: 3}, func(p *Program) {
			out := p.Input(int(w.Fd()))
			for i := range 3 {
				p.Do("dup3", "", unix.SYS_DUP3, out, i, 0)
			}
			p.Do("close_range", "", unix.SYS_CLOSE_RANGE, 3, int(^uint32(0)), unix.CLOSE_RANGE_UNSHARE)
			finish(p, "/bin/ls", "/proc/self/fd")
		})
		require.NoError(t, err)
		w.Close()
		out, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Zero(t, wait(t, p))
		require.Equal(t, "0 1 2 3", strings.Join(strings.Fields(string(out)), " "), "3 is the directory itself")
	})
}

// Without copying the table a command has only what it was given, though the embedder's are not close-on-exec.
func TestNothingInherited(t *testing.T) {
	testenv.Leaks(t)
	t.Cleanup(Release)
	fd, err := unix.FcntlInt(0, unix.F_DUPFD, 100)
	require.NoError(t, err)
	defer unix.Close(fd)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	p, err := Start(t.Context(), Setup{Files: 2}, func(p *Program) {
		out := p.Input(int(w.Fd()))
		p.Do("dup3", "", unix.SYS_DUP3, out, 1, 0)
		finish(p, "/bin/ls", "/proc/self/fd")
	})
	require.NoError(t, err)
	w.Close()
	out, err := io.ReadAll(r)
	require.NoError(t, err)
	wait(t, p)
	require.Equal(t, "0 1", strings.Join(strings.Fields(string(out)), " "), "0 is the directory itself")
}

// Files come out at their numbers whatever theirs are in the embedder: its first five, turned round, too.
func TestSwappedStdio(t *testing.T) {
	for _, mode := range []string{"fetched", "copied"} {
		t.Run(mode, func(t *testing.T) {
			dir := t.TempDir()
			var files []*os.File
			for i := range 5 {
				f, err := os.Create(filepath.Join(dir, fmt.Sprint("was", i)))
				require.NoError(t, err)
				defer f.Close()
				files = append(files, f)
			}
			cmd := embedder(t, "swap", mode)
			cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = files[0], files[1], files[2], files[3:]
			err := cmd.Run()
			text, readErr := os.ReadFile(files[2].Name())
			require.NoError(t, readErr)
			require.NoError(t, err, "%s", text)
			got, err := os.ReadFile(files[swapped[1]].Name())
			require.NoError(t, err)
			var want []string
			for range 2 { // plain and nested
				for _, i := range swapped {
					want = append(want, files[i].Name())
				}
			}
			var targets []string
			for line := range strings.Lines(string(got)) {
				_, target, _ := strings.Cut(strings.TrimSpace(line), " -> ")
				targets = append(targets, target)
			}
			require.Equal(t, want, targets)
		})
	}
}

// swapped is which of the embedder's descriptors the command has at 0, 1, 2 and so on.
var swapped = []int{1, 0, 3, 2, 4, 0}

func swappedStdio(args []string) error {
	copyTables.Store(args[0] == "copied")
	for _, nested := range []bool{false, true} {
		p, err := Start(context.Background(), Setup{Files: len(swapped)}, func(p *Program) {
			var in []Ref
			for _, fd := range swapped {
				in = append(in, p.Input(fd))
			}
			if nested {
				p.ForkCommand(0, NoRef)
			}
			for i, fd := range in {
				p.Do("dup3", "", unix.SYS_DUP3, fd, i, 0)
			}
			argv := []string{"/bin/ls", "-l"}
			for i := range swapped {
				argv = append(argv, fmt.Sprintf("/proc/self/fd/%d", i))
			}
			finish(p, argv...)
		})
		if err != nil {
			return err
		}
		s, err := p.Wait(context.Background())
		if err != nil || s.Status != 0 {
			return fmt.Errorf("status %#x (%v)", s.Status, err)
		}
	}
	return nil
}

// A command with more files than the embedder has descriptors: what the program works with lies above them.
func TestManyFiles(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		copying(t, func(t *testing.T) {
			testenv.Leaks(t)
			t.Cleanup(Release)
			user, err := newUserNS(t.Context())
			require.NoError(t, err)
			defer user.Close()
			for _, inUserNS := range []bool{false, true} {
				p, err := Start(t.Context(), Setup{Files: 100}, func(p *Program) {
					in := p.Input(0)
					ns := p.Input(int(user.Fd()))
					if inUserNS {
						p.Do("setns", "", unix.SYS_SETNS, ns, unix.CLONE_NEWUSER)
					}
					p.ForkCommand(0, NoRef)
					for i := range 100 {
						p.Do("dup3", "", unix.SYS_DUP3, in, i, 0)
					}
					if inUserNS {
						p.SetIDs(insideRoot()) // sees the embedder alive, after the dup3s
					}
					finish(p, "/bin/sh", "-c", "exit 7")
				})
				require.NoError(t, err)
				require.Equal(t, 7, wait(t, p).ExitStatus())
			}
		})
	})
}

// An embedder that has as many descriptors as it may: an error, no half-started command, and all is well with one more.
func TestDescriptorLimit(t *testing.T) { inRole(t, "limited") }

func limitedFiles([]string) error {
	ctx := context.Background()
	user, err := newUserNS(ctx)
	if err != nil {
		return err
	}
	ks := kinds(user)
	for _, k := range ks { // makes the thread and the poller
		if err := startAndKill(k); err != nil {
			return err
		}
	}
	worked := map[string]bool{}
	highest, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Close(highest); err != nil {
		return err
	}
	for free := range 16 {
		limit := unix.Rlimit{Cur: uint64(highest + free), Max: 4096}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			return err
		}
		for _, k := range ks {
			switch err := startAndKill(k); {
			case err == nil:
				worked[k.name] = true
			case !errors.Is(err, unix.EMFILE) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ETOOMANYREFS):
				// EINVAL: fcntl(F_DUPFD) with a number above the limit. ETOOMANYREFS: an ordinary user's limit
				// holds for what he has on the way, too.
				return fmt.Errorf("%d free descriptors, %s: %w", free, k.name, err)
			}
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil); err != unix.ECHILD {
				return fmt.Errorf("%d free descriptors, %s: child %d is left (%v)", free, k.name, pid, err)
			}
		}
	}
	if len(worked) != len(ks) && os.Geteuid() == 0 {
		return fmt.Errorf("with 15 free descriptors only these worked: %v", worked)
	}
	limit := unix.Rlimit{Cur: 1024, Max: 4096}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	for _, k := range ks {
		if err := startAndKill(k); err != nil {
			return fmt.Errorf("with descriptors again: %s: %w", k.name, err)
		}
	}
	return nil
}

func startAndKill(k kind) error {
	p, err := k.run(context.Background())
	if err != nil || p == nil {
		return err
	}
	return errors.Join(p.Signal(unix.SIGKILL), p.end())
}

// An ordinary user may have only so many descriptors on the way (unix(7), ETOOMANYREFS): a command whose pidfd can't be
// sent is not left running.
func TestTooManyInFlight(t *testing.T) {
	if testenv.AsUser(t) {
		return
	}
	inRole(t, "inflight")
}

func tooManyInFlight([]string) error {
	if err := startAndKill(kind{"", 0, func(ctx context.Context) (*Process, error) {
		return Start(ctx, Setup{Files: 3}, nested("/bin/sleep", "1000"))
	}}); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: 64}); err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	rights := unix.UnixRights(0, 0, 0, 0, 0, 0, 0, 0)
	for i := 0; ; i++ {
		err := unix.Sendmsg(pair[0], []byte("."), rights, nil, 0)
		if err == unix.ETOOMANYREFS {
			break
		}
		if err != nil || i > 100 {
			return fmt.Errorf("message %d: %v", i, err)
		}
	}
	_, err = Start(context.Background(), Setup{Files: 3}, nested("/bin/sleep", "1000"))
	if !errors.Is(err, unix.ETOOMANYREFS) {
		return fmt.Errorf("got %v, want ETOOMANYREFS", err)
	}
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil); err != unix.ECHILD {
		return fmt.Errorf("child %d is left (%v)", pid, err)
	}
	return nil
}

// What a killed program sent does not come to the next one on its thread.
func TestNothingLeftInSocket(t *testing.T) {
	testenv.Leaks(t)
	t.Cleanup(Release)
	warm(t)
	for range 50 {
		ended := make(chan error, 1)
		go func() {
			_, _, err := Run(t.Context(), func(p *Program) {
				null := open(p, "/dev/null")
				n := p.Fork(0)
				for range 200 {
					p.Send(null)
				}
				p.Do("ppoll", "", unix.SYS_PPOLL, 0, 0, 0, 0, 8)
				p.Join(n)
			})
			ended <- err
		}()
		eventually(t, "two children", func() bool { return len(children(t)) == 2 || len(ended) > 0 })
		if pids := childrenIn(t, "D"); len(pids) > 0 {
			require.NoError(t, unix.Kill(pids[0], unix.SIGKILL))
		}
		for _, pid := range children(t) {
			unix.Kill(pid, unix.SIGKILL)
		}
		require.Error(t, <-ended)
		fds, _, err := Run(t.Context(), func(p *Program) { p.Send(open(p, "/dev/zero")) })
		require.NoError(t, err)
		require.Len(t, fds, 1)
		closeAll(fds)
	}
}

// A clone3 that fails late, here for a limit of the pids controller, has written the number of a pidfd and taken the
// pidfd back: by then the number may be another descriptor's of the embedder.
func TestCloneFails(t *testing.T) {
	testenv.Root(t)
	c := newCgroup(t, "pids")
	inRole(t, "pids", string(c))
}

// idleThreads makes the runtime have so many threads.
func idleThreads(n int) {
	var all, wg sync.WaitGroup
	all.Add(n)
	for range n {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			all.Done()
			all.Wait()
		})
	}
	wg.Wait()
}

func cloneFails(args []string) error {
	ctx := context.Background()
	if err := startAndKill(kinds(nil)[0]); err != nil {
		return err
	}
	idleThreads(32) // Go can't make any then, and would panic
	dir := args[0]
	if err := errors.Join(os.WriteFile(dir+"/pids.max", []byte("0"), 0), os.WriteFile(dir+"/cgroup.procs", []byte("0"), 0)); err != nil {
		return err
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	var lost atomic.Int64
	for range 2 {
		wg.Go(func() {
			for !stop.Load() {
				fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil || unix.Close(fd) != nil {
					lost.Add(1)
				}
			}
		})
	}
	defer wg.Wait()
	defer stop.Store(true)
	for range 3000 {
		_, err := Start(ctx, Setup{Files: 3}, plain("/bin/true"))
		var e *Error
		if !errors.As(err, &e) || e.Op != "clone3" || e.Errno != unix.EAGAIN {
			return fmt.Errorf("got %v, want clone3: EAGAIN", err)
		}
	}
	if n := lost.Load(); n > 0 {
		return fmt.Errorf("%d descriptors of the embedder's were closed", n)
	}
	return nil
}
