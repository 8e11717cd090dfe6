package cgroup

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// reuseTree has a box whose pool is awake.
func reuseTree(t *testing.T) *Group {
	tree := openTree(t, Options{Controllers: Accounting | CPU})
	box, err := tree.New("box", Limits{Memory: 1 << 30})
	require.NoError(t, err)
	for range 2 {
		g, err := box.Leaf(limit(t), Limits{})
		require.NoError(t, err)
		g.Release()
	}
	return box
}

// once has a leaf used, and says whether its directories serve another one, at once or when the background is through.
func once(t *testing.T, box *Group, l Limits, use func(g *Group)) bool {
	g, err := box.Leaf(limit(t), l)
	require.NoError(t, err)
	use(g)
	g.Release()
	require.NoError(t, box.tree.bg.flush(limit(t)))
	return succeeded(g)
}

func succeeded(g *Group) bool {
	g.parent.mu.Lock()
	defer g.parent.mu.Unlock()
	c := g.parent.children[g.name]
	return c != nil && c != g
}

// ran runs a command in g to its end and closes its Join.
func ran(t *testing.T, g *Group, args ...string) {
	c, j := joining(t, g, args...)
	require.NoError(t, c.Start())
	require.NoError(t, j.Close())
	_ = c.Wait()
}

// A command of one process leaves nothing: its leaf comes back, and with it all descriptors.
func TestReuse(t *testing.T) {
	box := reuseTree(t)
	l := Limits{Memory: 64 << 20, PIDs: 9, CPUs: 1.5}
	back := 0
	for range 50 {
		came := once(t, box, l, func(g *Group) {
			u, err := g.Usage()
			require.NoError(t, err)
			require.Zero(t, u.CPU.Value)
			require.Zero(t, u.PIDsPeak.Value)
			require.LessOrEqual(t, u.MemoryPeak.Value, int64(leftover))
			require.Equal(t, l, g.Limits())
			require.Equal(t, "9", value(t, g, PIDs, "pids.max"))
			ran(t, g, "true")
			u, err = g.Usage()
			require.NoError(t, err)
			require.Positive(t, u.CPU.Value)
			if hasPIDsPeak(g) {
				require.Equal(t, int64(1), u.PIDsPeak.Value)
			}
			e, err := g.Events()
			require.NoError(t, err)
			require.Zero(t, e.OOMKills.Value+e.MemoryHits.Value+e.PIDsHits.Value)
		})
		if came {
			back++
		}
	}
	if box.in(Memory).v2 || box.in(PIDs).v2 || box.in(CPU).v2 || box.in(CPUAcct).v2 {
		require.Zero(t, back, "v2's counters can't be set back")
		return
	}
	require.Greater(t, back, 25)
}

// What would show in the next command's figures, or act on it, does not come back.
func TestReuseNot(t *testing.T) {
	box := reuseTree(t)
	l := Limits{Memory: 32 << 20, PIDs: 3}
	shell := func(script string) func(*testing.T, *Group) {
		return func(t *testing.T, g *Group) { ran(t, g, "sh", "-c", script) }
	}
	dir := t.TempDir()
	for name, use := range map[string]func(*testing.T, *Group){
		"two processes": shell("true & wait"),
		"refused forks": shell("sleep 0.01 & sleep 0.01 & sleep 0.01 & wait"),
		"page cache":    shell("exec dd if=/dev/zero of=" + dir + "/f bs=1M count=8 2>/dev/null"),
		"memory limit": func(t *testing.T, g *Group) {
			ran(t, g, "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1")
		},
		"a Join still open": func(t *testing.T, g *Group) {
			j, err := g.Join()
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, j.Close()) })
		},
		"killed by name": func(t *testing.T, g *Group) { require.NoError(t, g.Kill(limit(t))) },
		"a process added": func(t *testing.T, g *Group) {
			c := run(t, exec.Command("sleep", "1000"))
			require.NoError(t, g.Add(c.Process.Pid))
			require.NoError(t, c.Process.Kill())
			_ = c.Wait()
		},
		"somebody in it": func(t *testing.T, g *Group) { sleeper(t, g) },
	} {
		t.Run(name, func(t *testing.T) {
			told := true
			came := once(t, box, l, func(g *Group) {
				told = hasPIDsPeak(g) || g.in(PIDs).v2 || name != "two processes" // else nothing shows that there were two
				use(t, g)
			})
			require.Equal(t, !told, came)
		})
	}
	t.Run("throttled", func(t *testing.T) {
		require.False(t, once(t, box, Limits{CPUs: 0.05}, func(g *Group) {
			ran(t, g, "sh", "-c", "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done")
		}))
	})
	t.Run("released twice", func(t *testing.T) {
		g, err := box.Leaf(limit(t), l)
		require.NoError(t, err)
		g.Release()
		g.Release()
		box.mu.Lock()
		c := box.children[g.name]
		box.mu.Unlock()
		require.NoError(t, box.tree.bg.flush(limit(t)))
		require.True(t, c == nil || c == g || exists(c.places()[0].dir), "the second did nothing to the next one")
	})
}

// Memory that the kernel lets go of a moment later keeps a leaf only that long.
func TestReuseLater(t *testing.T) {
	box := reuseTree(t)
	if box.in(Memory).v2 {
		return // none comes back: TestReuse
	}
	later := 0
	for range 20 {
		g, err := box.Leaf(limit(t), Limits{Memory: 64 << 20})
		require.NoError(t, err)
		fd, err := unix.MemfdCreate("charged", unix.MFD_CLOEXEC)
		require.NoError(t, err)
		ran(t, g, "dd", "if=/dev/zero", "bs=1M", "count=8", "status=none", fmt.Sprintf("of=/proc/%d/fd/%d", os.Getpid(), fd))
		g.Release()
		atOnce := succeeded(g)
		require.NoError(t, unix.Close(fd))
		require.NoError(t, box.tree.bg.flush(limit(t)))
		if !atOnce && succeeded(g) {
			later++
		}
	}
	require.Positive(t, later)
}

// What a process is charged for after it was waited for is not the next command's.
func TestReuseSettled(t *testing.T) {
	box := reuseTree(t)
	h := box.in(CPUAcct)
	if h.v2 || h.ctl&PIDs != 0 {
		return // none comes back, or it would not be clean
	}
	g, err := box.Leaf(limit(t), Limits{})
	require.NoError(t, err)
	ran(t, g, "true")
	g.Release()
	require.NoError(t, box.tree.bg.flush(limit(t)))
	require.True(t, succeeded(g))
	late := run(t, exec.Command("sh", "-c", "while :; do :; done"))
	require.NoError(t, os.WriteFile(g.dir(h)+"/tasks", []byte(strconv.Itoa(late.Process.Pid)), 0))
	require.Eventually(t, func() bool {
		b, err := os.ReadFile(g.dir(h) + "/cpuacct.usage")
		return err == nil && string(b) != "0\n"
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, late.Process.Kill())
	_ = late.Wait()
	for range 100 { // it is one of those that wait
		next, err := box.Leaf(limit(t), Limits{})
		require.NoError(t, err)
		u, err := next.Usage()
		require.NoError(t, err)
		require.Zero(t, u.CPU.Value)
		if next.name == g.name {
			return
		}
	}
	t.Fatal("the leaf was not taken again")
}

// What is called on a released leaf does nothing to the one that follows in its directories.
func TestReuseOldHandle(t *testing.T) {
	box := reuseTree(t)
	for range 30 {
		g, err := box.Leaf(limit(t), Limits{PIDs: 9})
		require.NoError(t, err)
		var wg sync.WaitGroup
		for _, f := range []func(){
			func() { _ = g.Kill(limit(t)) },
			func() { _ = g.Update(Limits{PIDs: 2}) },
			func() { _, _ = g.Usage() },
			func() { _ = g.Remove(limit(t)) },
			g.Release, g.Release,
		} {
			wg.Go(f)
		}
		wg.Wait()
		next, err := box.Leaf(limit(t), Limits{PIDs: 9})
		require.NoError(t, err)
		c := sleeper(t, next)
		require.NoError(t, g.Kill(limit(t)))
		require.ErrorIs(t, g.Update(Limits{PIDs: 2}), os.ErrClosed)
		_, err = g.Usage()
		require.ErrorIs(t, err, os.ErrClosed)
		require.NoError(t, g.Remove(limit(t)))
		g.Release()
		require.Equal(t, "9", value(t, next, PIDs, "pids.max"))
		require.Equal(t, []string{strconv.Itoa(c.Process.Pid)}, members1(t, next))
		require.NoError(t, next.Kill(limit(t)))
		_ = c.Wait()
		next.Release()
	}
}

func members1(t *testing.T, g *Group) (all []string) {
	pids, err := members(g.places())
	require.NoError(t, err)
	for _, p := range pids {
		all = append(all, strconv.Itoa(p))
	}
	return all
}

// The groups above change meanwhile: no leaf keeps what was true before.
func TestReuseUpdate(t *testing.T) {
	box := reuseTree(t)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				g, err := box.Leaf(context.Background(), Limits{CPUs: 1})
				if err != nil {
					t.Error(err)
					return
				}
				g.Release()
			}
		})
	}
	for i := range 200 {
		require.NoError(t, box.Update(Limits{Memory: 1 << 30, CPUs: float64(1+i%2*9)/10 + 0.1}))
	}
	close(done)
	wg.Wait()
	require.NoError(t, box.Update(Limits{Memory: 1 << 30, CPUs: 0.5}))
	for range 8 {
		g, err := box.Leaf(limit(t), Limits{CPUs: 1})
		require.NoError(t, err)
		require.Equal(t, 0.5, g.state().CPUs)
		if g.in(CPU).v2 {
			require.Equal(t, "50000 100000", value(t, g, CPU, "cpu.max"))
		} else {
			require.Equal(t, "50000", value(t, g, CPU, cfsQuota))
		}
	}
}
