//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// output is what the built program prints with arguments.
func output(t *testing.T, exe string, args ...string) []byte {
	t.Helper()
	var stderr bytes.Buffer
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), exe, args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
	return out
}

// Each way either has figures or says why not, and nothing is left behind.
func TestSpawn(t *testing.T) {
	exe := testenv.Go(t, ".")
	testenv.RootAndUser(t, func(t *testing.T) {
		testenv.Leaks(t)
		var r report
		require.NoError(t, json.Unmarshal(output(t, exe, "spawn", "-n", "3", "-json"), &r))
		require.Len(t, r.Ways, 15)
		require.Equal(t, "os/exec", r.Ways[0].Name)
		require.Equal(t, 1.0, r.Ways[0].Ratio)
		for _, w := range r.Ways {
			if w.Missing != "" {
				require.NotContains(t, []string{"os/exec", "warm Run", "cold New+Run+Close"}, w.Name, w.Missing)
				continue
			}
			require.Positive(t, w.P50, w.Name)
			require.LessOrEqual(t, w.P50, w.P95, w.Name)
		}
	})
}

// A program of the machine's, which looks at its arguments.
func TestOtherProgram(t *testing.T) {
	exe := testenv.Go(t, ".")
	testenv.Leaks(t)
	var r report
	require.NoError(t, json.Unmarshal(output(t, exe, "spawn", "-n", "1", "-json", "-program", "/usr/bin/busybox"), &r))
	require.Len(t, r.Ways, 15)
	require.Equal(t, "/usr/bin/busybox", r.Program)
}

func TestLoads(t *testing.T) {
	exe := testenv.Go(t, ".")
	testenv.Leaks(t)
	var r report
	require.NoError(t, json.Unmarshal(output(t, exe, "spawn", "-n", "2", "-fds", "-pauses", "-json"), &r))
	require.Len(t, r.Loads, 2)
	require.Equal(t, "10000 descriptors", r.Loads[1].Load)
	require.Len(t, r.Pauses, 4)
	for i, p := range r.Pauses {
		require.Positive(t, p.Stops, p.Load)
		require.LessOrEqual(t, p.P99, p.Max, p.Load)
		require.Equal(t, i > 0, p.Rate > 0, p.Load)
	}
}

// Each level of each way has a rate, and each figure a value.
func TestLimits(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("testenv: needs root")
	}
	exe := testenv.Go(t, ".")
	testenv.Leaks(t)
	var r report
	require.NoError(t, json.Unmarshal(output(t, exe, "limits", "-n", "1", "-run", "warm Run", "-json"), &r))
	require.Len(t, r.Rates, 3)
	for _, row := range r.Rates {
		require.Empty(t, row.Missing, row.Name)
		require.Len(t, row.Rates, len(levels), row.Name)
		require.Positive(t, slices.Min(row.Rates), row.Name)
	}
	r = report{}
	require.NoError(t, json.Unmarshal(output(t, exe, "accuracy", "-n", "1", "-json"), &r))
	require.Len(t, r.Accuracy, 11)
	for _, f := range r.Accuracy {
		require.LessOrEqual(t, f.P50, f.Worst, f.What)
		bounds, ok := loosely[f.What]
		require.Equal(t, ok, f.What != "Wall overshot", f.What) // which is a time, and the machine's
		if ok {
			require.GreaterOrEqual(t, f.P50, bounds[0], f.What)
			require.LessOrEqual(t, f.P50, bounds[1], f.What)
		}
	}
}

// loosely bounds what is measured of processor time and memory, on a machine under load: a start that is charged to the
// program, or a limit that is not looked at, is far beyond.
var loosely = map[string][2]float64{
	"processor time of a program that exits at once":            {0, 15},
	"memory of a program that exits at once":                    {0, 2048},
	"processor time of a second's spin, less its own getrusage": {-5, 50},
	"CPUTime overshot, one thread":                              {0, 100},
	"CPUTime overshot, four threads":                            {0, 300},
	"peak of touching 1 MiB, less that of touching none":        {-2048, 2048},
	"peak of touching 16 MiB, less that of touching none":       {-2048, 2048},
	"peak of touching 64 MiB, less that of touching none":       {-2048, 2048},
	"peak of touching 256 MiB, less that of touching none":      {-2048, 3072},
	"peak of touching 512 MiB, less that of touching none":      {-2048, 4096},
}

// The program that is started exits with 0, by itself.
func TestProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "exit")
	require.NoError(t, writeProgram(path))
	require.NoError(t, exec.Command(path).Run())
}

func TestCompare(t *testing.T) {
	var base, twice, noisy way
	for i := range 100 {
		d := time.Duration(i%10+1) * time.Millisecond
		base.times = append(base.times, d)
		twice.times = append(twice.times, 2*d)
		if i >= 75 { // its last quarter
			d *= 3
		}
		noisy.times = append(noisy.times, d)
	}
	compare([]*way{&base, &twice, &noisy})
	require.Equal(t, 6*time.Millisecond, base.P50)
	require.Equal(t, 10*time.Millisecond, base.P95)
	require.Equal(t, 2.0, twice.Ratio)
	require.Equal(t, []float64{2, 2}, []float64{twice.Low, twice.High})
	require.Equal(t, 1.0, noisy.Low)
	require.InDelta(t, 3, noisy.High, 0.5)
}

func TestArguments(t *testing.T) {
	for _, args := range [][]string{{}, {"pull"}, {"spawn", "-n", "0"}, {"spawn", "-run", "("}, {"spawn", "extra"}, {"spawn", "-program", "/nonexistent"}} {
		require.Error(t, bench(t.Context(), args), args)
	}
}
