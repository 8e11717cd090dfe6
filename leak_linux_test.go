package sandbox_test

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// A thousand sandboxes, fifty at a time, leave the machine as it was.
func TestThousandSandboxes(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		st, root := store(t), skeleton(t)
		const all, together = 1000, 50
		var group sync.WaitGroup
		next, failed := make(chan int), make(chan error, all)
		for range together {
			group.Go(func() {
				for i := range next {
					failed <- thousandth(t.Context(), st, root, i)
				}
			})
		}
		for i := range all {
			next <- i
		}
		close(next)
		group.Wait()
		for range all {
			require.NoError(t, <-failed)
		}
		info, err := st.Sandboxes(t.Context())
		require.NoError(t, err)
		require.Empty(t, info)
		// A thread for each Run that waits, and those of the runtime: none for each sandbox.
		require.Less(t, testenv.Threads(), together+10*runtime.GOMAXPROCS(0))
	})
}

func thousandth(ctx context.Context, st *sandbox.Store, root string, i int) error {
	o := sandbox.Options{Store: st, Name: "n" + strconv.Itoa(i)}
	if i%4 == 0 {
		o.Rootfs = root
	}
	res, err := sandbox.Run(ctx, o, sandbox.Command("sh", "-c", `test $$ = 1 && test "$(hostname)" = n`+strconv.Itoa(i)))
	if err != nil {
		return err
	}
	return res.Err()
}

// Close gives every descriptor back by itself, not by the finalizers of files.
func TestCloseLeavesNoDescriptor(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		st, root := store(t), skeleton(t)
		defer debug.SetGCPercent(debug.SetGCPercent(-1))
		open := func() int {
			all, err := os.ReadDir("/proc/self/fd")
			require.NoError(t, err)
			return len(all)
		}
		use := func(n int) {
			for i := range n {
				require.NoError(t, thousandth(t.Context(), st, root, i))
			}
		}
		use(8) // what the store and the program keep
		before := open()
		use(40)
		// Namespaces for the next sandbox may just be in the making.
		require.Eventually(t, func() bool { return open() <= before }, 5*time.Second, 10*time.Millisecond, "%d, %d before", open(), before)
	})
}

// A Sandbox that its owner forgot is taken down by the garbage collector, with what runs in it.
func TestDroppedSandbox(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		root := skeleton(t)
		st := store(t)
		mark := newMark()
		forget(t, st, sandbox.Options{Store: st}, mark)
		forget(t, st, sandbox.Options{Store: st, Rootfs: root}, mark)
		require.Eventually(t, func() bool {
			runtime.GC()
			all, err := st.Sandboxes(t.Context())
			require.NoError(t, err)
			return len(all) == 0 && len(living(t, mark)) == 0
		}, 10*time.Second, 10*time.Millisecond)

	})
}

//go:noinline
func forget(t *testing.T, st *sandbox.Store, o sandbox.Options, mark string) {
	c := lingering(mark)
	c.Pipes = sandbox.PipeStdout
	sb := sandbox.New(o)
	p, err := sb.Start(t.Context(), c)
	require.NoError(t, err)
	_, err = p.Stdout.Read(make([]byte, 3))
	require.NoError(t, err)
	require.NoError(t, p.Stdout.Close())
	require.NotEmpty(t, living(t, mark))
	runtime.KeepAlive(sb)
}
