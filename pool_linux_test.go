package sandbox_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
)

// No sandbox of a Pool shows what ran in another one, before or at the same time.
func TestPool(t *testing.T) {
	tracing(t, func(t *testing.T, o sandbox.Options) {
		pool := sandbox.NewPool(o, 3)
		used := get(t, pool)
		p := leave(t, used)
		for range 6 {
			sb := get(t, pool)
			require.Equal(t, ".", look(t, sb), "at the same time")
			leave(t, sb)
			closes(t, sb)
		}
		_ = p.Kill()
		closes(t, used)
		sb := get(t, pool)
		require.Equal(t, ".", look(t, sb), "afterwards")
		require.NoError(t, pool.Close())
		require.Equal(t, ".", look(t, sb), "it is its owner's")
		closes(t, sb)
	})
}

func get(t testing.TB, p *sandbox.Pool) *sandbox.Sandbox {
	sb, err := p.Get(t.Context())
	require.NoError(t, err)
	return sb
}

// A Pool has as many ready as it says, and gives each of them once; Close leaves none.
func TestPoolSize(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		st := store(t)
		pool := sandbox.NewPool(sandbox.Options{Store: st}, 5)
		ready := func() int {
			all, err := st.Sandboxes(t.Context())
			require.NoError(t, err)
			return len(all)
		}
		require.Zero(t, ready(), "NewPool does no work")
		first := get(t, pool)
		require.Eventually(t, func() bool { return ready() == 6 }, 10*time.Second, 5*time.Millisecond)
		var all sync.WaitGroup
		var mu sync.Mutex
		names := map[string]bool{first.Name(): true}
		for range 10 {
			all.Go(func() {
				sb, err := pool.Get(t.Context())
				if err == nil {
					mu.Lock()
					names[sb.Name()] = true
					mu.Unlock()
					_, err = sb.Run(t.Context(), sandbox.Command("true"))
					err = errors.Join(err, sb.Close())
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		require.Len(t, names, 11)
		closes(t, first)
		require.Eventually(t, func() bool { return ready() == 5 }, 10*time.Second, 5*time.Millisecond)
		require.NoError(t, pool.Close())
		require.Zero(t, ready())
		require.NoError(t, pool.Close())
		_, err := pool.Get(t.Context())
		require.ErrorIs(t, err, os.ErrClosed)
	})
}

// What can't be built is an error of Get's, and nothing is left.
func TestPoolBadInput(t *testing.T) {
	st := store(t)
	for name, pool := range map[string]*sandbox.Pool{
		"size":         sandbox.NewPool(sandbox.Options{Store: st}, 0),
		"Options.Name": sandbox.NewPool(sandbox.Options{Store: st, Name: "one"}, 1),
		"Options.Dir":  sandbox.NewPool(sandbox.Options{Store: st, Dir: "relative"}, 1),
	} {
		_, err := pool.Get(t.Context())
		require.ErrorIs(t, err, fs.ErrInvalid, name)
		require.ErrorContains(t, err, name)
		require.NoError(t, pool.Close())
	}
	pool := sandbox.NewPool(sandbox.Options{Store: st}, 2)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := pool.Get(ended)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, pool.Close())
}
