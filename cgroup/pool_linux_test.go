package cgroup

import (
	"fmt"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLeafFresh(t *testing.T) {
	name := unique()
	tree := openTree(t, Options{Name: name, Controllers: Accounting})
	box, err := tree.New("box", Limits{Memory: 1 << 30})
	require.NoError(t, err)
	seen := map[string]bool{}
	prepared := 0
	for i := range 40 {
		l := Limits{Memory: 64 << 20, PIDs: int64(10 + i/20)} // the same, but for one change
		g, err := box.Leaf(limit(t), l)
		require.NoError(t, err)
		require.False(t, seen[g.Name()], "never the same twice")
		seen[g.Name()] = true
		require.Equal(t, l, g.Limits())
		require.Equal(t, fmt.Sprint(l.PIDs), value(t, g, PIDs, "pids.max"))
		g.mu.Lock()
		if g.ready != nil {
			prepared++
		}
		g.mu.Unlock()
		u, err := g.Usage()
		require.NoError(t, err)
		require.Equal(t, Figure[int64]{0, true}, u.PIDsPeak)
		require.NoError(t, inside(t, g, "true").Run())
		u, err = g.Usage()
		require.NoError(t, err)
		require.Equal(t, int64(1), u.PIDsPeak.Value)
		require.Positive(t, u.MemoryPeak.Value)
		require.Positive(t, u.CPU.Value)
		g.Release()
		_, err = g.Join()
		require.Error(t, err)
	}
	require.Greater(t, prepared, 20)
	eventually(t, func() bool { return len(box.below()) <= defaultLeaves })
}

// Other limits that need other controllers must not get a leaf without them.
func TestLeafOtherControllers(t *testing.T) {
	tree := openTree(t, Options{})
	for i := range 300 {
		l := Limits{PIDs: 5}
		if i%3 == 2 {
			l = Limits{Memory: 32 << 20}
		}
		g, err := tree.Leaf(limit(t), l)
		require.NoError(t, err)
		require.Equal(t, l.needs(), g.own)
		g.Release()
	}
}

func TestLeafIdle(t *testing.T) {
	tree := openTree(t, Options{})
	g, err := tree.Leaf(limit(t), Limits{})
	require.NoError(t, err)
	g.Release()
	eventually(t, func() bool { return len(tree.root.below()) == 0 }) // one use makes no pool
	for range 5 {
		g, err := tree.Leaf(limit(t), Limits{})
		require.NoError(t, err)
		g.Release()
	}
	eventually(t, func() bool { return len(tree.root.below()) > 0 })
	eventually(t, func() bool { return len(tree.root.below()) == 0 && tree.meters.Load() == 0 })
}

func TestReleaseKills(t *testing.T) {
	name := unique()
	tree := openTree(t, Options{Name: name})
	g, err := tree.Leaf(limit(t), Limits{PIDs: 5})
	require.NoError(t, err)
	c := sleeper(t, g)
	g.Release()
	require.True(t, killed(c))
	require.NoError(t, tree.Close(limit(t)))
}

func TestLeafConcurrent(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // the collector would close what was forgotten
	fds := openFDs()
	name := unique()
	tree := openTree(t, Options{Name: name, Controllers: Accounting})
	box, err := tree.New("box", Limits{Memory: 1 << 30})
	require.NoError(t, err)
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]bool{}
	ctx := limit(t)
	for i := range 64 {
		wg.Go(func() {
			for k := range 5 {
				g, err := box.Leaf(ctx, Limits{Memory: 64 << 20, PIDs: int64(8 + (i+k)%2)})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[g.Name()] {
					t.Error("twice:", g.Name())
				}
				seen[g.Name()] = true
				mu.Unlock()
				j, err := g.Join()
				if err != nil {
					t.Error(err)
					return
				}
				_ = j.Close()
				if u, err := g.Usage(); err != nil || !u.MemoryPeak.Measured {
					t.Error(u, err)
				}
				g.Release()
			}
		})
	}
	wg.Wait()
	require.Len(t, seen, 320)
	require.LessOrEqual(t, tree.meters.Load(), int64(meterBudget))
	require.NoError(t, tree.Close(ctx))
	require.Zero(t, tree.meters.Load())
	require.Equal(t, fds, openFDs())
	require.Empty(t, dirs(name))
}

// Close in the midst of it: calls fail with os.ErrClosed or work, and nothing is left.
func TestCloseConcurrent(t *testing.T) {
	for range 10 {
		name := unique()
		tree := openTree(t, Options{Name: name, Controllers: PIDs})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for {
					g, err := tree.Leaf(limit(t), Limits{PIDs: 4})
					if err != nil {
						return
					}
					_, _ = g.Usage()
					_ = g.Update(Limits{PIDs: 5})
					g.Release()
				}
			})
		}
		time.Sleep(5 * time.Millisecond)
		require.NoError(t, tree.Close(limit(t)))
		wg.Wait()
		require.Empty(t, dirs(name))
	}
}

// The last owner in the default parent removes it while the next one makes its tree there.
func TestParentRace(t *testing.T) {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				tree, err := Open(Options{Name: unique()})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := tree.New("g", Limits{PIDs: 3}); err != nil {
					t.Error(err)
				}
				if err := tree.Close(limit(t)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
