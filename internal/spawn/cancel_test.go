//go:build linux

package spawn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

var errCause = errors.New("the caller has had enough")

// A kind is a way to run a program: it returns the Process, nil for one that starts none.
type kind struct {
	name string
	// unreached are the calls that a good run does not come to: what Exec has ready for a bad one.
	unreached int
	run       func(ctx context.Context) (*Process, error)
}

func kinds(user *os.File) (all []kind) {
	for _, p := range programs(user, "/bin/sleep", "1000") {
		all = append(all, kind{p.name, 2, p.start})
	}
	for _, namespaces := range slices.Compact([]uint64{0, pidNamespace()}) {
		all = append(all, kind{fmt.Sprintf("init %#x", namespaces), 1, func(ctx context.Context) (*Process, error) {
			i, err := newInit(ctx, user, initFile, namespaces)
			if err != nil {
				return nil, err
			}
			i.leave()
			return i.Process, nil
		}})
	}
	return append(all, kind{"world build", 0, func(ctx context.Context) (*Process, error) {
		fds, _, err := Run(ctx, worldBuild(user))
		closeAll(fds)
		return nil, err
	}})
}

// eachStep runs every kind of program as often as it has calls, stopped before each of them, and calls f then. It must
// end with the error that check accepts, and nothing left of it.
func eachStep(t *testing.T, f func(cancel func()), check func(t *testing.T, err error, msg string)) {
	user, err := newUserNS(t.Context())
	require.NoError(t, err)
	defer user.Close()
	warm(t)
	makeDumpable(t)
	before := table(t)
	defer SetHook(nil)
	for _, k := range kinds(user) {
		calls, unreached := countCalls(t, k), 0
		for n := range calls {
			msg := fmt.Sprintf("%s, call %d of %d", k.name, n, calls)
			ctx, cancel := context.WithCancelCause(t.Context())
			SetHook(&Hook{PauseAt: n})
			ended := make(chan error, 1)
			go func() {
				p, err := k.run(ctx)
				if p != nil {
					err = errors.Join(p.Signal(unix.SIGKILL), p.end())
				}
				ended <- err
			}()
			if paused(t, ended) {
				f(func() { cancel(errCause) })
				err = <-ended
				check(t, err, msg)
			} else {
				unreached++
			}
			cancel(nil)
			require.Empty(t, children(t), msg)
			require.Equal(t, before, table(t), msg)
			require.Equal(t, 1, dumpableNow(t), msg)
			require.Len(t, threads.idle, 1, msg)
		}
		require.Equal(t, k.unreached, unreached, "%s: calls that were not stopped", k.name)
	}
}

func (p *Process) end() error {
	_, err := p.Wait(context.Background())
	return errors.Join(err, p.Close())
}

// countCalls runs a program to its end.
func countCalls(t *testing.T, k kind) (calls int) {
	SetHook(&Hook{PauseAt: -1, Calls: func(n int) { calls = n }})
	p, err := k.run(t.Context())
	require.NoError(t, err)
	if p != nil {
		require.NoError(t, p.Signal(unix.SIGKILL))
		wait(t, p)
	}
	return calls
}

// paused waits until a child has slept for a moment, as in the hook's ppoll (one in vfork is in state D); false when the
// program has ended in place of that.
func paused(t *testing.T, ended chan error) bool {
	for seen := 0; seen < 5; time.Sleep(50 * time.Microsecond) {
		select {
		case err := <-ended:
			require.NoError(t, err)
			return false
		default:
		}
		if len(childrenIn(t, "S")) > 0 {
			seen++
		} else {
			seen = 0
		}
	}
	return true
}

// childrenIn lists the children in a state of proc_pid_stat(5), but for commands and their inits.
func childrenIn(t *testing.T, state string) (pids []int) {
	for _, pid := range children(t) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		if _, after, _ := strings.Cut(string(stat), ") "); strings.HasPrefix(after, state) && !strings.Contains(string(stat), "(sleep)") && !strings.Contains(string(stat), "(init)") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Rule 8: a context that ends at whatever step ends the program, and nothing is left.
func TestCancelAtEachStep(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		copying(t, func(t *testing.T) {
			testenv.Leaks(t)
			t.Cleanup(Release)
			eachStep(t, func(cancel func()) { cancel() }, func(t *testing.T, err error, msg string) {
				require.ErrorIs(t, err, errCause, msg)
			})
		})
	})
}

// Rule 8: a SIGSTOP, as from somebody inside a PID namespace that the program has entered, does not protect a child.
func TestCancelStopped(t *testing.T) {
	testenv.Leaks(t)
	t.Cleanup(Release)
	eachStep(t, func(cancel func()) {
		for _, pid := range children(t) {
			require.NoError(t, unix.Kill(pid, unix.SIGSTOP))
		}
		cancel()
	}, func(t *testing.T, err error, msg string) {
		require.ErrorIs(t, err, errCause, msg)
	})
}

// A child that is killed from outside before its exec is an error, never a command; the nested one does not outlive an
// intermediate that was killed, for it uses the program's memory (rule 1).
func TestKilledAtEachStep(t *testing.T) {
	for name, state := range map[string]string{"the one that works": "S", "the one that waits for it": "D"} {
		t.Run(name, func(t *testing.T) {
			testenv.Leaks(t)
			t.Cleanup(Release)
			eachStep(t, func(cancel func()) {
				pids := childrenIn(t, state)
				if len(pids) == 0 {
					pids = childrenIn(t, "S") // without an intermediate
				}
				require.NoError(t, unix.Kill(pids[0], unix.SIGKILL))
			}, func(t *testing.T, err error, msg string) {
				var e *Error
				require.ErrorAs(t, err, &e, msg)
				require.True(t, e.Killed, msg)
			})
		})
	}
}

// A signal that comes while a program is in flight, as a ^C to our process group, waits until the command unblocks it: no
// handler of Go's runs in a child, and no half of a program.
func TestSignalsWait(t *testing.T) {
	testenv.Leaks(t)
	t.Cleanup(Release)
	for _, build := range []func(*Program){plain("/bin/sleep", "1000"), nested("/bin/sleep", "1000")} {
		// In PID namespaces of their own commands ignore it: they are PID 1.
		withHook(t, Hook{PauseAt: 8})
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		go func() { _, err := Start(ctx, Setup{Files: 3}, build); ended <- err }()
		require.True(t, paused(t, ended))
		for _, pid := range children(t) {
			for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGURG, unix.SIGPROF, unix.SIGSEGV, unix.Signal(40)} {
				require.NoError(t, unix.Kill(pid, sig))
			}
		}
		select {
		case err := <-ended:
			t.Fatal(err)
		case <-time.After(20 * time.Millisecond):
		}
		cancel(errCause)
		require.Equal(t, errCause, <-ended)
	}
}

// Rule 8 at instants between the calls.
func TestCancelAtRandom(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		testenv.Leaks(t)
		t.Cleanup(Release)
		user, err := newUserNS(t.Context())
		require.NoError(t, err)
		defer user.Close()
		makeDumpable(t)
		ks := kinds(user)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for i := range randomCancels {
					if err := cancelOne(ks[i%len(ks)]); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		require.Empty(t, children(t))
		require.Equal(t, 1, dumpableNow(t))
	})
}

func cancelOne(k kind) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	time.AfterFunc(rand.N(time.Millisecond), func() { cancel(errCause) })
	p, err := k.run(ctx)
	if errors.Is(err, errCause) || p == nil {
		if err == errCause {
			return nil
		}
		return err
	}
	// The context bounds the start only: a command that was started lives.
	<-ctx.Done()
	time.Sleep(time.Millisecond)
	done, err := ctx2(func(ctx context.Context) error { _, err := p.Wait(ctx); return err })
	if done {
		return fmt.Errorf("%s: the context of the start ended the command (%v)", k.name, err)
	}
	return errors.Join(p.Signal(unix.SIGKILL), p.end())
}

// ctx2 says whether f is done within a moment.
func ctx2(f func(context.Context) error) (done bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	err = f(ctx)
	return !errors.Is(err, context.DeadlineExceeded), err
}

// A context that has ended, or ends while all threads are busy, starts nothing.
func TestCancelBefore(t *testing.T) {
	testenv.Leaks(t)
	t.Cleanup(Release)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errCause)
	_, err := Start(ctx, Setup{Files: 3}, func(*Program) { t.Error("built") })
	require.Equal(t, errCause, err)

	withHook(t, Hook{PauseAt: 2})
	busy, release := context.WithCancel(t.Context())
	ended := make(chan error)
	for range maxThreads() {
		go func() { _, err := Start(busy, Setup{Files: 3}, plain("/bin/true")); ended <- err }()
	}
	eventually(t, "all threads are busy", func() bool { return len(children(t)) == maxThreads() })
	ctx, cancel = context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { cancel(errCause) })
	_, err = Start(ctx, Setup{Files: 3}, func(*Program) { t.Error("built") })
	require.Equal(t, errCause, err)
	release()
	for range maxThreads() {
		require.ErrorIs(t, <-ended, context.Canceled)
	}
}

// A killed child that does not end, here since it is frozen (cgroup v1: a SIGKILL waits for the thaw), keeps its thread
// and not its caller. When it ends at last, nothing is left of it.
func TestHung(t *testing.T) {
	testenv.Root(t)
	testenv.Leaks(t)
	t.Cleanup(Release)
	warm(t)
	before := table(t)
	freezer := newCgroup(t, "freezer")
	t.Cleanup(func() { freezer.write(t, "freezer.state", "THAWED") })
	tasks := freezer.open(t, "tasks")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	ended := make(chan error, 1)
	go func() {
		_, err := Start(ctx, Setup{Files: 3}, command(func(p *Program) {
			p.Do("write", "tasks", unix.SYS_WRITE, p.Input(int(tasks.Fd())), "0", 1)
			p.Do("ppoll", "", unix.SYS_PPOLL, 0, 0, 0, 0, 8)
		}, "/bin/true"))
		ended <- err
	}()
	require.True(t, paused(t, ended))
	freezer.write(t, "freezer.state", "FROZEN")
	eventually(t, "frozen", func() bool { return freezer.read(t, "freezer.state") == "FROZEN\n" })
	cancel(errCause)
	var hung *HungError
	select {
	case err := <-ended:
		require.ErrorAs(t, err, &hung)
		require.ErrorIs(t, err, errCause)
	case <-time.After(2 * killGrace):
		t.Fatal("the caller hangs with the child")
	}
	require.Len(t, children(t), 1)
	freezer.write(t, "freezer.state", "THAWED")
	eventually(t, "the child is gone", func() bool { return len(children(t)) == 0 })
	eventually(t, "the thread is idle", func() bool {
		threads.mu.Lock()
		defer threads.mu.Unlock()
		return len(threads.idle) == 1
	})
	require.NoError(t, tasks.Close())
	require.Equal(t, before, table(t))
}
