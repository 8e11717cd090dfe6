//go:build linux

package spawn

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// onOwnThread runs f on a thread that ends with it. The main thread would not end, so that it is not taken.
func onOwnThread(f func()) {
	done := make(chan bool)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			done <- false
			time.Sleep(10 * time.Millisecond) // another goroutine must not get this thread
			runtime.UnlockOSThread()
			return
		}
		f()
		close(done)
	}()
	if again, ok := <-done; ok && !again {
		onOwnThread(f)
	}
}

// storm has 64 goroutines start commands of all kinds, for as many rounds.
func storm(t *testing.T, rounds int) {
	user, err := newUserNS(t.Context())
	require.NoError(t, err)
	defer user.Close()
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for n := i; n < i+rounds; n++ {
				if err := stormOne(user, n); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func stormOne(user *os.File, n int) error {
	argv := []string{"/bin/sh", "-c", "exit 7"}
	ctx := context.Background()
	ways := programs(user, argv...)
	if n %= len(ways) + 1; n == len(ways) {
		fds, _, err := Run(ctx, worldBuild(user))
		closeAll(fds)
		return err
	}
	p, err := ways[n].start(ctx)
	if err != nil {
		return err
	}
	defer p.Close()
	s, err := p.Wait(ctx)
	if err == nil && s.Status != 7<<8 {
		err = &Error{Op: "status", Result: int(s.Status)}
	}
	return err
}

// Rule 7: what a program refers to stays where it is and alive while the collector runs as hard as it can, from 64
// goroutines, with a profiler's signals coming in.
func TestCollectorAndProfiler(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		testenv.Leaks(t)
		t.Cleanup(Release)
		defer debug.SetGCPercent(debug.SetGCPercent(1))
		require.NoError(t, pprof.StartCPUProfile(io.Discard))
		defer pprof.StopCPUProfile()
		var stop atomic.Bool
		var wg sync.WaitGroup
		defer wg.Wait()
		defer stop.Store(true)
		wg.Go(func() {
			for !stop.Load() {
				runtime.GC()
			}
		})
		wg.Go(func() {
			var keep [64][]byte
			for i := 0; !stop.Load(); i++ {
				keep[i%64] = []byte(strings.Repeat("x", 1+i%70000))
			}
			runtime.KeepAlive(&keep)
		})
		rounds := stormRounds
		if testing.Short() {
			rounds /= 4
		}
		storm(t, rounds)
	})
}

// Rule 7: a child that does not come to its exec holds up neither the collector nor any other goroutine.
func TestStopTheWorld(t *testing.T) {
	testenv.Leaks(t)
	t.Cleanup(Release)
	warm(t)
	withHook(t, Hook{PauseAt: 6})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, maxThreads())
	for range maxThreads() { // as many as there can be, more than there are processors for Go
		go func() {
			_, err := Start(ctx, Setup{Files: 3}, plain("/bin/true"))
			ended <- err
		}()
	}
	eventually(t, "all programs wait", func() bool { return len(children(t)) == maxThreads() })
	world := make(chan struct{})
	go func() {
		var m runtime.MemStats
		for range 10 {
			runtime.ReadMemStats(&m)
			runtime.GC()
		}
		close(world)
	}()
	select {
	case <-world:
	case <-time.After(10 * time.Second):
		// Not a Fatal: its clean-up would need the world to stop.
		panic("a child in vfork holds the runtime up")
	}
	cancel()
	for range maxThreads() {
		require.ErrorIs(t, <-ended, context.Canceled)
	}
}

// The time of a start does not depend on the embedder's memory, and works with much of it.
func TestLargeHeap(t *testing.T) {
	testenv.Root(t) // once is enough: it takes a while, and memory that an ordinary user may not have
	testenv.Leaks(t)
	t.Cleanup(Release)
	defer debug.FreeOSMemory()
	heap := make([]byte, 2<<30)
	for i := 0; i < len(heap); i += os.Getpagesize() {
		heap[i] = 1
	}
	storm(t, 2)
	runtime.KeepAlive(heap)
}

// Signals that the embedder ignores are not ignored by a command that resets them: CLONE_CLEAR_SIGHAND leaves them.
// Handlers are reset by the clone, and nothing is blocked.
func TestSignalDispositions(t *testing.T) {
	testenv.Leaks(t)
	t.Cleanup(Release)
	ignored := []os.Signal{unix.SIGUSR1, unix.SIGPIPE, unix.SIGHUP, unix.Signal(40)}
	signal.Ignore(ignored...)
	defer signal.Reset(ignored...)
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, unix.SIGUSR2)
	defer signal.Stop(caught)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	p, err := Start(t.Context(), Setup{Files: 2}, func(p *Program) {
		out := p.Input(int(w.Fd()))
		act := p.Words(0, 0, 0, 0)
		for sig := 1; sig <= 64; sig++ {
			if sig != int(unix.SIGKILL) && sig != int(unix.SIGSTOP) {
				p.Do("rt_sigaction", "", unix.SYS_RT_SIGACTION, sig, act, 0, 8)
			}
		}
		p.Do("dup3", "", unix.SYS_DUP3, out, 1, 0)
		finish(p, "/bin/cat", "/proc/self/status")
	})
	require.NoError(t, err)
	w.Close()
	status, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Zero(t, wait(t, p))
	for _, line := range []string{"SigBlk", "SigIgn", "SigCgt"} {
		require.Contains(t, string(status), line+":\t0000000000000000\n")
	}
}
