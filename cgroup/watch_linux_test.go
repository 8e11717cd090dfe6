package cgroup

import (
	"context"
	"errors"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// watched is what Watch yields, for as long as the test likes.
func watched(ctx context.Context, g *Group) (events <-chan Events, end <-chan error) {
	c, e := make(chan Events, 1000), make(chan error, 1)
	go func() { // ends with ctx or g
		for now, err := range g.Watch(ctx) {
			if err != nil {
				e <- err
				return
			}
			c <- now
		}
	}()
	return c, e
}

// until waits for events of which f is true.
func until(t *testing.T, events <-chan Events, f func(Events) bool) {
	t.Helper()
	for late := time.After(time.Minute); ; {
		select {
		case e := <-events:
			if f(e) {
				return
			}
		case <-late:
			require.Fail(t, "no such event")
		}
	}
}

func TestWatchMemory(t *testing.T) {
	tree := openTree(t, Options{})
	box, err := tree.New("box", Limits{Memory: 64 << 20})
	require.NoError(t, err)
	g, err := box.New("run", Limits{Memory: 32 << 20})
	require.NoError(t, err)
	ctx, cancel := context.WithCancelCause(limit(t))
	events, end := watched(ctx, g)
	require.Zero(t, (<-events).OOMKills.Value, "what it was before")
	for kills := int64(1); kills <= 3; kills++ {
		require.True(t, killed(run(t, insideHelper(t, g, "hog", "100"))))
		until(t, events, func(e Events) bool { return e.OOMKills.Value >= kills && e.MemoryHits.Value > 0 })
	}
	cause := errors.New("enough")
	cancel(cause)
	require.ErrorIs(t, <-end, cause)
}

// The group above ran out: the kill is told where it was.
func TestWatchAbove(t *testing.T) {
	tree := openTree(t, Options{Controllers: Memory})
	box, err := tree.New("box", Limits{Memory: 32 << 20})
	require.NoError(t, err)
	g, err := box.New("run", Limits{})
	require.NoError(t, err)
	own, _ := watched(limit(t), g)
	above, _ := watched(limit(t), box)
	<-own
	<-above
	require.True(t, killed(run(t, insideHelper(t, g, "hog", "100"))))
	until(t, own, func(e Events) bool { return e.OOMKills.Value > 0 && e.MemoryHits.Value == 0 })
	until(t, above, func(e Events) bool { return e.MemoryHits.Value > 0 })
}

func TestWatchPIDs(t *testing.T) {
	tree := openTree(t, Options{})
	g, err := tree.New("g", Limits{PIDs: 2})
	require.NoError(t, err)
	if onV2(t, PIDs) {
		events, end := watched(limit(t), g)
		require.Zero(t, (<-events).PIDsHits.Value)
		_ = inside(t, g, "sh", "-c", "sleep 0 | sleep 0 | sleep 0").Run()
		until(t, events, func(e Events) bool { return e.PIDsHits.Value > 0 })
		require.NoError(t, g.Remove(limit(t)))
		require.ErrorIs(t, <-end, os.ErrClosed, "Remove ends it")
	} else {
		for _, err := range g.Watch(limit(t)) {
			require.ErrorIs(t, err, errors.ErrUnsupported)
			require.ErrorContains(t, err, "memory controller: the group was made without it")
		}
		require.NoError(t, g.Remove(limit(t)))
	}
	for _, err := range g.Watch(limit(t)) {
		require.ErrorIs(t, err, os.ErrClosed)
	}
}

// Watching takes no thread, and leaving the loop ends it.
func TestWatchMany(t *testing.T) {
	threads := func() int { e, _ := os.ReadDir("/proc/self/task"); return len(e) }
	tree := openTree(t, Options{Controllers: Memory | PIDs})
	fds, before := openFDs(), runtime.NumGoroutine()
	var wg sync.WaitGroup
	var seen sync.WaitGroup
	was := threads()
	for range 100 {
		g, err := tree.Leaf(limit(t), Limits{})
		require.NoError(t, err)
		seen.Add(1)
		wg.Go(func() {
			for _, err := range g.Watch(limit(t)) {
				if err != nil {
					return
				}
				seen.Done()
			}
		})
	}
	seen.Wait()
	require.Less(t, threads()-was, 50)
	require.NoError(t, tree.Close(limit(t)))
	wg.Wait()
	eventually(t, func() bool { return openFDs() <= fds && runtime.NumGoroutine() <= before+1 }) // that of eventually
	other := openTree(t, Options{})
	g, err := other.New("g", Limits{Memory: 1 << 20})
	require.NoError(t, err)
	fds = openFDs()
	for range g.Watch(limit(t)) {
		break
	}
	eventually(t, func() bool { return openFDs() <= fds })
}
