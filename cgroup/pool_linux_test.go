package cgroup

import (
	"context"
	"fmt"
	"os/exec"
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
	prepared := 0
	for i := range 40 {
		l := Limits{Memory: 64 << 20, PIDs: int64(10 + i/20)} // the same, but for one change
		g, err := box.Leaf(limit(t), l)
		require.NoError(t, err)
		require.Equal(t, l, g.Limits())
		require.Equal(t, fmt.Sprint(l.PIDs), value(t, g, PIDs, "pids.max"))
		g.mu.Lock()
		if g.files != nil {
			prepared++
		}
		g.mu.Unlock()
		u, err := g.Usage()
		require.NoError(t, err)
		require.Equal(t, Figure[int64]{0, hasPIDsPeak(g)}, u.PIDsPeak)
		require.Zero(t, u.CPU.Value)
		require.LessOrEqual(t, u.Memory.Value, int64(leftover))
		require.LessOrEqual(t, u.MemoryPeak.Value, int64(leftover))
		require.NoError(t, inside(t, g, "true").Run())
		u, err = g.Usage()
		require.NoError(t, err)
		if hasPIDsPeak(g) {
			require.Equal(t, int64(1), u.PIDsPeak.Value)
		}
		if hasMemoryPeak(g) {
			require.Positive(t, u.MemoryPeak.Value)
		}
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
		require.Equal(t, tree.m.needs(l.needs()), g.own)
		g.Release()
	}
}

// Two kinds in turn find prepared leaves each, with their limits written; a third finds what it can rewrite.
func TestLeafKinds(t *testing.T) {
	tree := openTree(t, Options{Controllers: Accounting})
	box, err := tree.New("box", Limits{Memory: 1 << 30})
	require.NoError(t, err)
	kinds := []Limits{{Memory: 64 << 20}, {Memory: 32 << 20, PIDs: 9, CPUs: 0.5}}
	ready := func() (all []Limits) {
		box.pool.mu.Lock()
		defer box.pool.mu.Unlock()
		for _, c := range box.pool.ready {
			all = append(all, c.Limits())
		}
		return all
	}
	filling := func() bool {
		box.pool.mu.Lock()
		defer box.pool.mu.Unlock()
		return box.pool.busy
	}
	missed := 0
	for i := range 200 {
		l := kinds[i%2]
		g, err := box.Leaf(limit(t), l)
		require.NoError(t, err)
		require.Equal(t, l, g.Limits())
		require.Equal(t, tree.m.needs(Accounting|l.needs()), g.Controllers())
		require.Equal(t, orMax(l.PIDs), value(t, g, PIDs, "pids.max"))
		g.mu.Lock()
		if g.files == nil {
			missed++
		}
		g.mu.Unlock()
		j, err := g.Join()
		require.NoError(t, err)
		require.NoError(t, j.Close())
		g.Release()
		eventually(t, func() bool { return !filling() })
		require.Subset(t, kinds, ready(), "only what was asked for")
	}
	require.Less(t, missed, 20)
	eventually(t, func() bool { return len(ready()) > 0 })
	_, err = box.Leaf(limit(t), kinds[1]) // keeps the pool awake
	require.NoError(t, err)
	g, err := box.Leaf(limit(t), Limits{Memory: 16 << 20, PIDs: 4})
	require.NoError(t, err)
	require.Equal(t, "16777216", memoryLimit(t, g))
	require.Equal(t, "4", value(t, g, PIDs, "pids.max"))
}

// Prepared leaves of no use don't add up.
func TestLeafStale(t *testing.T) {
	tree := openTree(t, Options{Leaves: 8})
	for i := range 200 {
		l := Limits{PIDs: 5}
		if i/20%2 == 1 {
			l = Limits{Memory: 32 << 20}
		}
		g, err := tree.Leaf(limit(t), l)
		require.NoError(t, err)
		g.Release()
		time.Sleep(time.Millisecond)
		p := &tree.root.pool
		p.mu.Lock()
		n := len(p.ready)
		p.mu.Unlock()
		require.LessOrEqual(t, n, 8)
	}
}

// After Flush nothing is left of a tree without groups, and it can be used on.
func TestFlush(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	name := unique()
	tree := openTree(t, Options{Name: name, Controllers: Accounting})
	require.NoError(t, tree.Flush(limit(t)), "before the first")
	fds := openFDs()
	for range 3 {
		box, err := tree.New("box", Limits{Memory: 1 << 30})
		require.NoError(t, err)
		for range 10 {
			g, err := box.Leaf(limit(t), Limits{PIDs: 5})
			require.NoError(t, err)
			j, err := g.Join()
			require.NoError(t, err)
			require.NoError(t, j.Close())
			require.NoError(t, j.Close(), "twice")
			_, err = g.Usage()
			require.NoError(t, err)
			g.Release()
			_, err = box.Usage()
			require.NoError(t, err)
			time.Sleep(time.Millisecond)
		}
		require.NoError(t, tree.Flush(limit(t)))
		require.Len(t, dirs(name), len(box.places()), "the group is in use")
		require.Empty(t, box.below(), "no prepared leaf")
		require.Zero(t, tree.meters.Load())
		g, err := box.Leaf(limit(t), Limits{PIDs: 5})
		require.NoError(t, err)
		c := run(t, exec.Command("sleep", "1000"))
		require.NoError(t, g.Add(c.Process.Pid))
		g.Release()
		box.Release()
		require.NoError(t, tree.Flush(limit(t)))
		require.Empty(t, dirs(name))
		require.True(t, killed(c))
	}
	require.Zero(t, tree.meters.Load())
	for _, h := range tree.m.hier {
		require.False(t, h.isOpen())
	}
	require.LessOrEqual(t, openFDs(), fds+3, "but for those of the poller and of a child")
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	g, err := tree.New("g", Limits{})
	require.NoError(t, err)
	c := sleeper(t, g)
	g.Release()
	if err := tree.Flush(ended); err != nil { // it may have died at once
		require.ErrorIs(t, err, context.Canceled)
	}
	require.NoError(t, tree.Flush(limit(t)))
	require.Empty(t, dirs(name))
	require.True(t, killed(c))
}

// A closed Join's descriptors are closed soon, though no other call comes.
func TestJoinClose(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // the collector would close what was forgotten
	tree := openTree(t, Options{Controllers: Accounting})
	g, err := tree.Leaf(limit(t), Limits{})
	require.NoError(t, err)
	fds := openFDs()
	j, err := g.Join()
	require.NoError(t, err)
	require.Equal(t, fds+len(g.places()), openFDs())
	require.NoError(t, j.Close())
	eventually(t, func() bool { return openFDs() <= fds })
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
	used := map[string]bool{}
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
				if used[g.Name()] {
					t.Error("twice at a time:", g.Name())
				}
				used[g.Name()] = true
				mu.Unlock()
				j, err := g.Join()
				if err != nil {
					t.Error(err)
					return
				}
				_ = j.Close()
				if u, err := g.Usage(); err != nil || !u.Memory.Measured {
					t.Error(u, err)
				}
				mu.Lock()
				used[g.Name()] = false
				mu.Unlock()
				g.Release()
			}
		})
	}
	wg.Wait()
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

// The owner who made the parent removes it while the next one makes its groups there.
func TestParentRace(t *testing.T) {
	parent := unique()
	t.Cleanup(func() {
		for _, d := range dirs(parent) {
			require.NoError(t, rmdir(d))
		}
	})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				tree, err := Open(Options{Parent: parent, Name: unique()})
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
