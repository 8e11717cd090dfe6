package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// freezers are the controllers by each of which a group can be frozen here.
func freezers(t *testing.T) []Controllers { return present(t, Freezer, Unified) }

func TestFreeze(t *testing.T) {
	for _, own := range freezers(t) {
		t.Run(own.String(), func(t *testing.T) {
			tree := openTree(t, Options{Controllers: own | CPUAcct})
			box, err := tree.New("box", Limits{})
			require.NoError(t, err)
			g, err := box.New("run", Limits{})
			require.NoError(t, err)
			c := run(t, insideHelper(t, g, "spin", "1h"))
			used := func() time.Duration {
				u, err := g.Usage()
				require.NoError(t, err)
				return u.CPU.Value
			}
			eventually(t, func() bool { return used() > 10*time.Millisecond })
			require.NoError(t, box.Freeze(limit(t)), "a group above")
			t.Cleanup(func() { _ = g.Thaw(limit(t)); _ = box.Thaw(limit(t)) }) // so that what it holds can be killed
			frozen := used()
			still := func() {
				time.Sleep(100 * time.Millisecond)
				require.Less(t, used()-frozen, 30*time.Millisecond)
			}
			still()
			require.NoError(t, g.Freeze(limit(t)), "frozen already")
			require.NoError(t, box.Thaw(limit(t)))
			still() // it is frozen itself
			require.NoError(t, g.Thaw(limit(t)))
			eventually(t, func() bool { return used()-frozen > 30*time.Millisecond })
			require.NoError(t, g.Freeze(limit(t)))
			require.NoError(t, g.Kill(limit(t)))
			require.True(t, killed(c))
		})
	}
}

// Freeze that can't be had in time is taken back: a process that waits in the kernel for one outside doesn't stop.
func TestFreezeContext(t *testing.T) {
	for _, own := range freezers(t) {
		t.Run(own.String(), func(t *testing.T) {
			tree := openTree(t, Options{Controllers: own})
			g, err := tree.New("g", Limits{})
			require.NoError(t, err)
			cause := errors.New("enough")
			ended, cancel := context.WithCancelCause(context.Background())
			cancel(cause)
			c := sleeper(t, g)
			if err := g.Freeze(ended); err != nil { // it may have stopped at once
				require.ErrorIs(t, err, cause)
				require.NotContains(t, slurp(fmt.Sprintf("/proc/%d/stat", c.Process.Pid)), "frozen")
			}
			require.NoError(t, g.Thaw(limit(t)))
			require.ErrorIs(t, g.Thaw(ended), cause)
			require.NoError(t, g.Remove(killedIn(t, g)))
			require.ErrorIs(t, g.Freeze(limit(t)), os.ErrClosed)
			require.ErrorIs(t, g.Thaw(limit(t)), os.ErrClosed)
		})
	}
	tree := openTree(t, Options{})
	g, err := tree.New("g", Limits{PIDs: 5})
	require.NoError(t, err)
	if tree.Mode() != ModeV2 {
		require.ErrorIs(t, g.Freeze(limit(t)), errors.ErrUnsupported)
		require.ErrorContains(t, g.Freeze(limit(t)), "freezer controller: the group was made without it")
	}
}

// killedIn ends who is in g.
func killedIn(t *testing.T, g *Group) context.Context {
	require.NoError(t, g.Kill(limit(t)))
	return limit(t)
}

// A fork bomb can be stopped and goes on.
func TestFreezeBomb(t *testing.T) {
	for _, own := range freezers(t) {
		t.Run(own.String(), func(t *testing.T) {
			parent, enter := belt(t, "60")
			tree := openTree(t, Options{Parent: parent, Controllers: own})
			g, err := tree.New("bomb", Limits{PIDs: 30})
			require.NoError(t, err)
			c := inside(t, g, "sh", "-c", forkBomb)
			c.Args = append(append([]string{"sh"}, enter...), c.Args...)
			c = run(t, c)
			hits := func() int64 {
				e, err := g.Events()
				require.NoError(t, err)
				return e.PIDsHits.Value
			}
			eventually(t, func() bool { return hits() > 0 })
			require.NoError(t, g.Freeze(limit(t)))
			stopped := hits()
			time.Sleep(30 * time.Millisecond)
			require.Equal(t, stopped, hits())
			require.NoError(t, g.Kill(limit(t)))
			_ = c.Wait()
			require.Empty(t, strings.TrimSpace(value(t, g, PIDs, "cgroup.procs")))
		})
	}
}
