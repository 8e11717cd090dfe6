package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLazy(t *testing.T) {
	name := unique()
	tree := openTree(t, Options{Name: name})
	require.Empty(t, dirs(name), "Open makes nothing")
	g, err := tree.New("box", Limits{PIDs: 5})
	require.NoError(t, err)
	require.Len(t, dirs(name), 1, "only what the limit needs")
	require.Equal(t, "box", g.Name())
	require.Equal(t, Limits{PIDs: 5}, g.Limits())
	require.Equal(t, "5", value(t, g, PIDs, "pids.max"))
	require.NoError(t, tree.Close(limit(t)))
	require.Empty(t, dirs(name))
	require.NoError(t, tree.Close(limit(t)), "twice")
	_, err = tree.New("box", Limits{})
	require.ErrorIs(t, err, os.ErrClosed)
	_, err = tree.Leaf(limit(t), Limits{})
	require.ErrorIs(t, err, os.ErrClosed)
}

// A process of a leaf is in the leaf where that has the controller, in the group above where only that has it, and
// where it was in all others.
func TestJoin(t *testing.T) {
	name := unique()
	tree := openTree(t, Options{Name: name})
	box, err := tree.New("box", Limits{Memory: 64 << 20})
	require.NoError(t, err)
	run, err := box.New("run", Limits{PIDs: 9, CPUs: 0.5})
	require.NoError(t, err)
	p := sleeper(t, run).Process.Pid
	at := "/sandbox." + name
	require.Equal(t, at+".box/run", cgroupOf(t, p, PIDs))
	require.Equal(t, at+".box/run", cgroupOf(t, p, CPU))
	memory, others := at+".box", cgroupOf(t, os.Getpid(), Freezer)
	if tree.Mode() == ModeV2 { // one directory has them all
		memory, others = at+".box/run", at+".box/run"
	}
	require.Equal(t, memory, cgroupOf(t, p, Memory))
	require.Equal(t, others, cgroupOf(t, p, Freezer))
}

func TestAdd(t *testing.T) {
	all := present(t, Memory, PIDs, CPUAcct, Unified)
	var o Options
	for _, ctl := range all {
		o.Controllers |= ctl
	}
	tree := openTree(t, o)
	g, err := tree.New("job", Limits{})
	require.NoError(t, err)
	c := run(t, helper(t, "spin", "20s"))
	require.NoError(t, g.Add(c.Process.Pid))
	for _, ctl := range all {
		require.Contains(t, cgroupOf(t, c.Process.Pid, ctl), g.rel, "%v", ctl)
	}
	eventually(t, func() bool {
		u, err := g.Usage()
		return err == nil && u.CPU.Value > 10*time.Millisecond && u.PIDs.Value > 0
	})
	require.NoError(t, g.Kill(limit(t)))
	require.True(t, killed(c))
	for _, pid := range []int{0, -1, os.Getpid()} {
		require.ErrorIs(t, g.Add(pid), fs.ErrInvalid)
	}
	require.ErrorIs(t, g.Add(1<<22+1), syscall.ESRCH)
}

// What holds processes holds no groups, on v1 as the kernel demands it on v2.
func TestLeavesOnly(t *testing.T) {
	tree := openTree(t, Options{})
	g, err := tree.New("a", Limits{})
	require.NoError(t, err)
	_, err = tree.New("a", Limits{})
	require.ErrorIs(t, err, fs.ErrExist)
	c, err := g.New("b", Limits{})
	require.NoError(t, err)
	_, err = g.Join()
	require.ErrorIs(t, err, syscall.EBUSY)
	sleeper(t, c)
	_, err = c.New("c", Limits{})
	require.ErrorIs(t, err, syscall.EBUSY)
	_, err = c.Leaf(limit(t), Limits{})
	require.ErrorIs(t, err, syscall.EBUSY)
	for _, bad := range []string{"", "..", "x/y", "memory.max", "tasks", "a\nb"} {
		_, err = tree.New(bad, Limits{})
		require.ErrorIs(t, err, fs.ErrInvalid, "%q", bad)
	}
	_, err = tree.New("x", Limits{Memory: -1, PIDs: -1})
	require.Equal(t, []string{"Memory", "PIDs"}, faults(err))
}

func TestMemory(t *testing.T) {
	for _, c := range []struct {
		name string
		l    Limits
		dies bool
	}{
		{"control", Limits{}, false},
		{"above", Limits{Memory: 256 << 20}, false},
		{"below", Limits{Memory: 32 << 20}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := openTree(t, Options{Controllers: Accounting})
			g, err := tree.New("g", c.l)
			require.NoError(t, err)
			cmd := run(t, insideHelper(t, g, "hog", "100"))
			require.Equal(t, c.dies, killed(cmd))
			u, err := g.Usage()
			require.NoError(t, err)
			e, err := g.Events()
			require.NoError(t, err)
			require.True(t, e.MemoryHits.Measured && e.OOMKills.Measured)
			require.Equal(t, hasMemoryPeak(g), u.MemoryPeak.Measured)
			require.Equal(t, c.dies, e.OOMKills.Value > 0)
			require.Equal(t, c.dies, e.MemoryHits.Value > 0)
			if !u.MemoryPeak.Measured {
				return
			}
			if c.dies {
				require.InDelta(t, c.l.Memory, u.MemoryPeak.Value, 1<<20)
			} else {
				require.Greater(t, u.MemoryPeak.Value, int64(100<<20))
			}
		})
	}
}

// The limit of a group above ends a process of a leaf that has none.
func TestMemoryAbove(t *testing.T) {
	tree := openTree(t, Options{Controllers: Memory})
	box, err := tree.New("box", Limits{Memory: 32 << 20})
	require.NoError(t, err)
	g, err := box.New("run", Limits{})
	require.NoError(t, err)
	require.True(t, killed(run(t, insideHelper(t, g, "hog", "100"))))
	own, err := g.Events()
	require.NoError(t, err)
	above, err := box.Events()
	require.NoError(t, err)
	require.Positive(t, own.OOMKills.Value)
	require.Zero(t, own.MemoryHits.Value, "it was not its own limit")
	require.Positive(t, above.MemoryHits.Value)
}

const forkBomb = `f() { while :; do (sleep 0.3 & ) ; (f) & done; }; f 2>/dev/null`

// belt makes a pids cgroup with raw writes, and a command line that enters it before anything else. What holds a bomb
// must not be the code under test: with a fault in that it would take the machine. The tree is made below it, so a
// process that joins the tree's groups or fails to is bounded either way.
func belt(t testing.TB, most string) (parent string, enter []string) {
	m, err := detect("")
	require.NoError(t, err)
	for _, h := range m.hier {
		if h.ctl&PIDs == 0 {
			continue
		}
		parent = unique()
		dir := h.mount + "/" + parent
		require.NoError(t, os.Mkdir(dir, 0o755))
		t.Cleanup(func() {
			require.NoError(t, killer{[]place{{dir, h}}, true}.all(limit(t)))
			require.NoError(t, os.Remove(dir))
		})
		if h.v2 { // Groups in it are bounded by it anyway, and beside groups no process may be in it.
			_ = os.WriteFile(h.mount+"/cgroup.subtree_control", []byte("+pids"), 0)
			require.NoError(t, os.WriteFile(dir+"/pids.max", []byte(most), 0))
			return parent, []string{"-c", `exec "$@"`, dir}
		}
		require.NoError(t, os.WriteFile(dir+"/pids.max", []byte(most), 0))
		return parent, []string{"-c", `echo $$ > "$0/cgroup.procs" && exec "$@"`, dir}
	}
	t.Fatal("no pids controller")
	return "", nil
}

func TestForkBomb(t *testing.T) {
	for _, own := range present(t, PIDs, Freezer, Memory, Unified) { // alone
		t.Run(own.String(), func(t *testing.T) {
			parent, enter := belt(t, "100")
			tree := openTree(t, Options{Parent: parent, Controllers: own})
			box, err := tree.New("box", Limits{PIDs: 60})
			require.NoError(t, err)
			l := Limits{}
			if own == PIDs {
				l.PIDs = 30
			}
			g, err := box.New("bomb", l)
			require.NoError(t, err)
			c := inside(t, g, "sh", "-c", forkBomb)
			c.Args = append(append([]string{"sh"}, enter...), c.Args...)
			c = run(t, c)
			eventually(t, func() bool { u, err := box.Usage(); return err == nil && max(u.PIDs.Value, u.PIDsPeak.Value) >= 25 })
			if own == PIDs {
				eventually(t, func() bool { e, err := g.Events(); return err == nil && e.PIDsHits.Value > 0 })
				u, err := g.Usage()
				require.NoError(t, err)
				require.LessOrEqual(t, max(u.PIDs.Value, u.PIDsPeak.Value), int64(30))
			}
			require.NoError(t, g.Kill(limit(t)))
			if own == PIDs {
				require.Equal(t, "30", value(t, g, PIDs, "pids.max"), "the limit is back after Kill")
			}
			_ = c.Wait() // where forks were refused the shell may have ended before
			left, err := members(box.places())
			require.NoError(t, err)
			require.Empty(t, left)
			require.NoError(t, g.Remove(limit(t)))
		})
	}
}

func TestKillFrozen(t *testing.T) {
	tree := openTree(t, Options{Controllers: Freezer})
	g, err := tree.New("g", Limits{})
	require.NoError(t, err)
	c := sleeper(t, g)
	require.NoError(t, g.Freeze(limit(t)))
	require.NoError(t, g.Kill(limit(t)))
	require.True(t, killed(c))
	sleeper(t, g) // it runs: the next one isn't frozen
}

// A group can be used on after Kill, by all ways in.
func TestKillAgain(t *testing.T) {
	for _, own := range present(t, PIDs, Unified, Freezer) {
		tree := openTree(t, Options{Controllers: own})
		box, err := tree.New("box", Limits{})
		require.NoError(t, err)
		g, err := box.New("run", Limits{})
		require.NoError(t, err)
		for _, k := range []*Group{g, box, g} {
			c := sleeper(t, g)
			moved := run(t, exec.Command("sleep", "1000"))
			require.NoError(t, g.Add(moved.Process.Pid))
			require.NoError(t, k.Kill(limit(t)))
			require.True(t, killed(c) && killed(moved), "%v", own)
		}
		require.NoError(t, inside(t, g, "true").Run(), "%v", own)
	}
}

func TestCPUs(t *testing.T) {
	tree := openTree(t, Options{Controllers: Accounting})
	g, err := tree.New("g", Limits{CPUs: 0.2})
	require.NoError(t, err)
	start := time.Now()
	c := run(t, insideHelper(t, g, "spin", "2s"))
	require.NoError(t, c.Wait())
	u, err := g.Usage()
	require.NoError(t, err)
	e, err := g.Events()
	require.NoError(t, err)
	require.True(t, u.CPU.Measured && u.User.Measured && u.System.Measured)
	require.InDelta(t, u.CPU.Value, u.User.Value+u.System.Value, 2e3) // v2 cuts off each to a microsecond
	require.Less(t, u.CPU.Value, time.Since(start)*4/10)
	rusage := c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	require.InDelta(t, rusage.Seconds(), u.CPU.Value.Seconds(), 0.05+rusage.Seconds()/4, "but for what it used before it was in the group")
	require.Positive(t, e.Throttled.Value)
	require.Positive(t, e.ThrottledTime.Value)
}

func TestUnmeasured(t *testing.T) {
	tree := openTree(t, Options{})
	g, err := tree.New("g", Limits{PIDs: 3})
	require.NoError(t, err)
	u, err := g.Usage()
	require.NoError(t, err)
	want := Usage{PIDs: Figure[int64]{0, true}, PIDsPeak: Figure[int64]{0, true}}
	if tree.Mode() == ModeV2 { // part of every group
		zero := Figure[time.Duration]{0, true}
		want.CPU, want.User, want.System = zero, zero, zero
	}
	want.PIDsPeak.Measured = u.PIDsPeak.Measured // Linux 6.1
	require.Equal(t, want, u)
	e, err := g.Events()
	require.NoError(t, err)
	require.Equal(t, Events{PIDsHits: Figure[int64]{0, true}}, e)
	require.NoError(t, g.Remove(limit(t)))
	_, err = g.Usage()
	require.ErrorIs(t, err, os.ErrClosed)
	_, err = g.Events()
	require.ErrorIs(t, err, os.ErrClosed)
	_, err = g.Join()
	require.ErrorIs(t, err, os.ErrClosed)
	require.ErrorIs(t, g.Add(1<<22), os.ErrClosed)
	require.ErrorIs(t, g.Update(Limits{PIDs: 1}), os.ErrClosed)
	require.NoError(t, g.Remove(limit(t)), "twice")
}

func TestUpdate(t *testing.T) {
	tree := openTree(t, Options{Controllers: Memory | PIDs | CPU})
	box, err := tree.New("box", Limits{CPUs: 1})
	require.NoError(t, err)
	g, err := box.New("g", Limits{Memory: 64 << 20, CPUs: 4})
	require.NoError(t, err)
	// The limit of memory with swap on v1, that of swap alone on v2.
	swap := func(v1, v2 string) string {
		if g.in(Memory).v2 {
			return v2
		}
		return v1
	}
	files := func() string {
		file := swap("memory.memsw.limit_in_bytes", "memory.swap.max")
		return strings.Join([]string{memoryLimit(t, g), value(t, g, Memory, file), value(t, g, PIDs, "pids.max"), cpuQuota(t, g)}, " ")
	}
	first := "67108864 " + swap("71303168", "0") + " max 100000 100000"
	require.Equal(t, first, files(), "no looser than above")
	for _, c := range []struct {
		name string
		l    Limits
		want string
	}{
		{"up", Limits{Memory: 128 << 20, PIDs: 7, CPUs: 0.5}, "134217728 " + swap("138412032", "0") + " 7 50000 100000"},
		{"down with swap", Limits{Memory: 32 << 20, Swap: 1 << 20, PIDs: 8}, "33554432 " + swap("34603008", "1048576") + " 8 "},
		{"free swap", Limits{Memory: 32 << 20, Swap: Unlimited}, "33554432 " + swap("9223372036854771712", "max") + " max "},
		{"none", Limits{}, " " + swap("9223372036854771712", "max") + " max "},
		{"back", Limits{Memory: 64 << 20, CPUs: 4}, first},
	} {
		require.NoError(t, g.Update(c.l), c.name)
		require.Equal(t, c.want, files(), c.name)
		require.Equal(t, c.l, g.Limits(), c.name)
	}
	for _, cpus := range []float64{0.25, 0, 3, 1} { // the group below follows
		require.NoError(t, box.Update(Limits{CPUs: cpus}))
		want := min(cpus, 4)
		if cpus == 0 {
			want = 4
		}
		require.Equal(t, fmt.Sprint(Limits{CPUs: want}.quota().Microseconds(), 100000), cpuQuota(t, g))
	}
	require.ErrorIs(t, g.Update(Limits{PIDs: -1}), fs.ErrInvalid)
	var e *UnsupportedError
	require.ErrorAs(t, g.Update(Limits{CPUSet: "0"}), &e)
	require.Equal(t, "cpuset controller", e.What)
	require.Equal(t, Limits{Memory: 64 << 20, CPUs: 4}, g.Limits())
}

// Nobody is killed by a limit below what is in use, on v2 neither.
func TestUpdateBelowUse(t *testing.T) {
	tree := openTree(t, Options{Controllers: PIDs})
	g, err := tree.New("g", Limits{Memory: 256 << 20})
	require.NoError(t, err)
	c := run(t, insideHelper(t, g, "hold", "60"))
	eventually(t, func() bool { s, err := g.MemoryStat(); return err == nil && s.Anon.Value > 60<<20 })
	err = g.Update(Limits{Memory: 8 << 20, PIDs: 3})
	require.ErrorIs(t, err, syscall.EBUSY)
	var e *InUseError
	require.ErrorAs(t, err, &e)
	require.Equal(t, "Memory", e.Field)
	require.Equal(t, int64(8<<20), e.Value)
	require.Greater(t, e.Use, int64(60<<20))
	require.Regexp(t, `^Memory: 8388608: 6\d{7} bytes are in use \(end processes first, or choose more\)$`, err.Error())
	// On v1 the first of the writes works here, and has to be taken back.
	require.ErrorIs(t, g.Update(Limits{Memory: 8 << 20, Swap: 1 << 30}), syscall.EBUSY)
	require.Equal(t, Limits{Memory: 256 << 20}, g.Limits())
	require.Equal(t, "268435456", memoryLimit(t, g))
	if g.in(Memory).v2 {
		require.Equal(t, "max", value(t, g, Memory, "memory.high"))
	} else {
		require.Equal(t, "272629760", value(t, g, Memory, "memory.memsw.limit_in_bytes"))
	}
	require.Equal(t, "max", value(t, g, PIDs, "pids.max"))
	require.NoError(t, c.Process.Signal(syscall.Signal(0)))
	require.NoError(t, g.Update(Limits{Memory: 100 << 20, PIDs: 3}))
	require.Equal(t, "104857600", memoryLimit(t, g))
	require.Equal(t, "3", value(t, g, PIDs, "pids.max"), "less threads than there are")
	u, err := g.Usage()
	require.NoError(t, err)
	require.Greater(t, u.PIDs.Value, int64(3))
	require.NoError(t, c.Process.Signal(syscall.Signal(0)))
}

// What is only page cache makes way.
func TestUpdateReclaims(t *testing.T) {
	tree := openTree(t, Options{})
	g, err := tree.New("g", Limits{Memory: 256 << 20})
	require.NoError(t, err)
	file := diskFile(t)
	require.NoError(t, inside(t, g, "dd", "if=/dev/zero", "of="+file, "bs=1M", "count=24", "conv=fsync").Run())
	s, err := g.MemoryStat()
	require.NoError(t, err)
	require.Greater(t, s.File.Value, int64(20<<20))
	require.NoError(t, g.Update(Limits{Memory: 8 << 20}))
	u, err := g.Usage()
	require.NoError(t, err)
	require.LessOrEqual(t, u.Memory.Value, int64(8<<20))
	e, err := g.Events()
	require.NoError(t, err)
	require.Zero(t, e.OOMKills.Value)
}

func TestCPUSetGroups(t *testing.T) {
	tree := openTree(t, Options{Controllers: CPUSet})
	box, err := tree.New("box", Limits{CPUSet: "1"})
	require.NoError(t, err)
	g, err := box.New("g", Limits{})
	require.NoError(t, err)
	// Moved in: on Linux 5.10 one that is born in a v2 group keeps its parent's processors.
	c := run(t, exec.Command("sleep", "1000"))
	require.NoError(t, g.Add(c.Process.Pid))
	allowed := func() string {
		_, s, _ := strings.Cut(slurp(fmt.Sprintf("/proc/%d/status", c.Process.Pid)), "Cpus_allowed_list:\t")
		s, _, _ = strings.Cut(s, "\n")
		return s
	}
	require.Equal(t, "1", allowed())
	require.NoError(t, box.Update(Limits{CPUSet: "0"}), "with a process in it")
	require.Equal(t, "0", allowed())
	require.NoError(t, box.Update(Limits{}))
	require.Equal(t, "0-1", allowed())
	require.NoError(t, box.Update(Limits{CPUSet: "0"}))
	for name, set := range map[string]string{"absent": "0,500", "disjoint": "1"} {
		_, err = box.New(name, Limits{CPUSet: set})
		require.ErrorIs(t, err, fs.ErrInvalid, name)
		require.Empty(t, dirs(name))
	}
	partly, err := box.New("partly", Limits{CPUSet: "0-1", PIDs: 5})
	require.NoError(t, err)
	require.ErrorIs(t, partly.Update(Limits{CPUSet: "1", PIDs: 9}), fs.ErrInvalid)
	require.Equal(t, "5", value(t, partly, PIDs, "pids.max"), "all or nothing")
	require.Equal(t, "0", value(t, partly, CPUSet, "cpuset.cpus"))
	require.Equal(t, "0-1", partly.Limits().CPUSet)
}

func TestContextEnds(t *testing.T) {
	tree := openTree(t, Options{})
	g, err := tree.New("g", Limits{})
	require.NoError(t, err)
	c := sleeper(t, g)
	cause := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(context.Background(), 30*time.Millisecond, cause)
	defer cancel()
	require.ErrorIs(t, g.Remove(ctx), cause)
	require.NoError(t, c.Process.Signal(syscall.Signal(0)), "Remove kills nobody")
	_, err = tree.Leaf(ctx, Limits{})
	require.ErrorIs(t, err, cause)
	require.NoError(t, g.Kill(limit(t)))
	require.NoError(t, g.Remove(limit(t)))
	require.True(t, killed(c))
	ended, stop := context.WithCancel(context.Background())
	stop()
	g, err = tree.New("g", Limits{})
	require.NoError(t, err)
	c = sleeper(t, g)
	for err = context.Canceled; err != nil; { // each call goes on where the last one stopped
		err = tree.Close(ended)
	}
	require.True(t, killed(c))
}
