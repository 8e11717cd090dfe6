package cgroup

import (
	"os/exec"
	"slices"
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

// BenchmarkLeaf takes, uses and releases leaves after so long an idle time.
func BenchmarkLeaf(b *testing.B) {
	for _, idle := range []time.Duration{0, time.Millisecond, 50 * time.Millisecond} {
		b.Run("idle="+idle.String(), func(b *testing.B) {
			tree := openTree(b, Options{Controllers: Accounting})
			box, err := tree.New("box", Limits{Memory: 1 << 30})
			require.NoError(b, err)
			b.ReportAllocs()
			m := measured{}
			for b.Loop() {
				time.Sleep(idle)
				t := time.Now()
				g, err := box.Leaf(b.Context(), benchLimits)
				require.NoError(b, err)
				j, err := g.Join()
				require.NoError(b, err)
				m.step("acquire", &t)
				_ = j.Close()
				m.step("close", &t)
				_, err = g.Usage()
				require.NoError(b, err)
				_, err = g.Events()
				require.NoError(b, err)
				m.step("read", &t)
				g.Release()
				m.step("release", &t)
			}
			m.report(b)
		})
	}
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
