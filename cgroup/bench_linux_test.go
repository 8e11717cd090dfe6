package cgroup

import (
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var benchLimits = Limits{Memory: 64 << 20, PIDs: 32, CPUs: 0.5}

// measured reports the median and the 95th percentile of each step.
type measured map[string][]time.Duration

func (m measured) step(name string, since *time.Time) {
	now := time.Now()
	m[name] = append(m[name], now.Sub(*since))
	*since = time.Now()
}

func (m measured) report(b *testing.B) {
	for name, d := range m {
		slices.Sort(d)
		b.ReportMetric(float64(d[len(d)/2].Nanoseconds())/1e3, name+"-p50-µs")
		b.ReportMetric(float64(d[len(d)*95/100].Nanoseconds())/1e3, name+"-p95-µs")
	}
}

// cpu is the CPU time that this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// reportCPU reports what was used since then, the background's part with it.
func reportCPU(b *testing.B, tree *Tree, before time.Duration) {
	require.NoError(b, tree.Close(b.Context()))
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
}

// BenchmarkLeaf takes, uses and releases leaves: of one kind after so long an idle time, and of two in turn.
func BenchmarkLeaf(b *testing.B) {
	plain := Limits{Memory: 64 << 20}
	for _, c := range []struct {
		name  string
		idle  time.Duration
		kinds [2]Limits
	}{
		{"idle=0s", 0, [2]Limits{benchLimits, benchLimits}},
		{"idle=1ms", time.Millisecond, [2]Limits{benchLimits, benchLimits}},
		{"idle=50ms", 50 * time.Millisecond, [2]Limits{benchLimits, benchLimits}},
		{"two-limits", time.Millisecond, [2]Limits{plain, {Memory: 32 << 20, PIDs: 9}}},
		{"two-controllers", time.Millisecond, [2]Limits{plain, benchLimits}},
	} {
		b.Run(c.name, func(b *testing.B) {
			tree := openTree(b, Options{Controllers: Accounting})
			box, err := tree.New("box", Limits{Memory: 1 << 30})
			require.NoError(b, err)
			b.ReportAllocs()
			m := measured{}
			before := cpu(b)
			for n := 0; b.Loop(); n++ {
				time.Sleep(c.idle)
				t := time.Now()
				g, err := box.Leaf(b.Context(), c.kinds[n%2])
				require.NoError(b, err)
				m.step("leaf", &t)
				j, err := g.Join()
				require.NoError(b, err)
				m.step("join", &t)
				_ = j.Close()
				m.step("close", &t)
				time.Sleep(c.idle / 2) // the child runs
				t = time.Now()
				_, err = g.Usage()
				require.NoError(b, err)
				_, err = g.Events()
				require.NoError(b, err)
				m.step("read", &t)
				g.Release()
				m.step("release", &t)
			}
			reportCPU(b, tree, before)
			m.report(b)
		})
	}
}

// BenchmarkCold makes and removes all that one command in one group needs.
func BenchmarkCold(b *testing.B) {
	m := measured{}
	tree := openTree(b, Options{Controllers: Accounting})
	for b.Loop() {
		t := time.Now()
		box, err := tree.New("box", Limits{Memory: 1 << 30})
		require.NoError(b, err)
		g, err := box.Leaf(b.Context(), benchLimits)
		require.NoError(b, err)
		j, err := g.Join()
		require.NoError(b, err)
		m.step("make", &t)
		_ = j.Close()
		g.Release()
		box.Release()
		require.NoError(b, tree.Flush(b.Context()))
		m.step("remove", &t)
	}
	m.report(b)
}

// BenchmarkNew makes and removes groups with nothing prepared.
func BenchmarkNew(b *testing.B) {
	tree := openTree(b, Options{Controllers: Accounting})
	_, err := tree.New("keep", benchLimits) // the tree's own directories are there
	require.NoError(b, err)
	m := measured{}
	for b.Loop() {
		t := time.Now()
		g, err := tree.New("g", benchLimits)
		require.NoError(b, err)
		m.step("new", &t)
		require.NoError(b, g.Remove(b.Context()))
		m.step("remove", &t)
	}
	m.report(b)
}

// BenchmarkRun starts a shell that enters a leaf and execs, against one that enters none.
func BenchmarkRun(b *testing.B) {
	b.Run("os-exec", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, exec.Command("/bin/sh", "-c", `exec "$@"`, "sh", "/bin/true").Run())
		}
	})
	b.Run("leaf", func(b *testing.B) {
		tree := openTree(b, Options{Controllers: Accounting})
		for b.Loop() {
			g, err := tree.Leaf(b.Context(), benchLimits)
			require.NoError(b, err)
			j, err := g.Join()
			require.NoError(b, err)
			c := exec.Command("/bin/sh", "-c", `echo 0 >&3; echo 0 >&4; echo 0 >&5; echo 0 >&6; exec "$@"`, "sh", "/bin/true")
			c.ExtraFiles = j.Tasks
			require.NoError(b, c.Run())
			_ = j.Close()
			_, _ = g.Usage()
			_, _ = g.Events()
			g.Release()
		}
	})
}
