package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCPUPeriod(t *testing.T) {
	tree := openTree(t, Options{Controllers: CPU})
	box, err := tree.New("box", Limits{CPUs: 0.5, CPUPeriod: 20 * time.Millisecond})
	require.NoError(t, err)
	require.Equal(t, "10000 20000", cpuQuota(t, box))
	g, err := box.New("g", Limits{CPUs: 2, CPUPeriod: time.Second})
	require.NoError(t, err)
	require.Equal(t, "500000 1000000", cpuQuota(t, g), "no looser than above")
	low, err := box.New("low", Limits{CPUs: 0.01, CPUPeriod: 500 * time.Millisecond})
	require.NoError(t, err)
	for _, c := range []struct {
		l       Limits
		box, in string
	}{
		{Limits{CPUs: 0.333335, CPUPeriod: time.Second}, "333335 1000000", "333335 1000000"},
		{Limits{CPUs: 0.333335}, "33333 100000", "333330 1000000"},
		{Limits{CPUs: 0.005, CPUPeriod: 300 * time.Millisecond}, "1500 300000", "5000 1000000"},
		{Limits{}, "", "2000000 1000000"},
		{Limits{CPUs: 0.5, CPUPeriod: time.Millisecond * 2}, "1000 2000", "500000 1000000"},
	} {
		require.NoError(t, box.Update(c.l), "%v", c.l)
		require.Equal(t, c.box, cpuQuota(t, box), "%v", c.l)
		require.Equal(t, c.in, cpuQuota(t, g), "%v", c.l)
	}
	require.Equal(t, "5000 500000", cpuQuota(t, low))
	// Less than the default period can say: the limit above holds.
	require.NoError(t, box.Update(Limits{CPUs: 0.002, CPUPeriod: time.Second}))
	require.NoError(t, g.Update(Limits{CPUs: 1}))
	require.Empty(t, cpuQuota(t, g))
}

// On one processor who weighs ten times as much gets more.
func TestCPUWeight(t *testing.T) {
	tree := openTree(t, Options{Controllers: CPUAcct | CPU})
	light, err := tree.New("light", Limits{CPUWeight: 10, CPUSet: "0"})
	require.NoError(t, err)
	heavy, err := tree.New("heavy", Limits{CPUWeight: 1000, CPUSet: "0"})
	require.NoError(t, err)
	used := func(g *Group) time.Duration {
		u, err := g.Usage()
		require.NoError(t, err)
		return u.CPU.Value
	}
	spin := func(g *Group) { // moved in: one that is born there keeps its parent's processors on v2 of Linux 5.10
		require.NoError(t, g.Add(run(t, helper(t, "spin", "1h")).Process.Pid))
	}
	spin(light)
	eventually(t, func() bool { return used(light) > 10*time.Millisecond })
	spin(heavy)
	eventually(t, func() bool { return used(heavy) > 10*time.Millisecond })
	l, h := used(light), used(heavy)
	eventually(t, func() bool {
		heavier, lighter := used(heavy)-h, used(light)-l
		return heavier > 500*time.Millisecond && heavier > 3*lighter
	})
	require.NoError(t, heavy.Update(Limits{CPUSet: "0"}))
	file, want := "cpu.shares", "1024"
	if heavy.in(CPU).v2 {
		file, want = "cpu.weight", "100"
	}
	require.Equal(t, want, value(t, heavy, CPU, file))
}

func TestMemoryHighLow(t *testing.T) {
	tree := openTree(t, Options{})
	g, err := tree.New("g", Limits{MemoryHigh: 32 << 20, MemoryLow: 8 << 20})
	if !onV2(t, Memory) {
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.ErrorContains(t, err, "cgroup MemoryHigh and MemoryLow: v1 has none (have the memory controller on v2")
		return
	}
	require.NoError(t, err)
	require.Equal(t, "33554432", value(t, g, Memory, "memory.high"))
	require.Equal(t, "8388608", value(t, g, Memory, "memory.low"))
	file := diskFile(t)
	require.NoError(t, inside(t, g, "dd", "if=/dev/zero", "of="+file, "bs=1M", "count=48", "conv=fsync").Run())
	u, err := g.Usage()
	require.NoError(t, err)
	require.Less(t, u.Memory.Value, int64(36<<20), "page cache was reclaimed")
	require.NoError(t, g.Update(Limits{}))
	require.Equal(t, "max", value(t, g, Memory, "memory.high"))
	require.Equal(t, "0", value(t, g, Memory, "memory.low"))
}

func TestMemoryStat(t *testing.T) {
	tree := openTree(t, Options{})
	g, err := tree.New("g", Limits{Memory: 256 << 20})
	require.NoError(t, err)
	run(t, insideHelper(t, g, "hold", "40"))
	stat := func() MemoryStat {
		s, err := g.MemoryStat()
		require.NoError(t, err)
		return s
	}
	eventually(t, func() bool { return stat().Anon.Value > 40<<20 })
	require.Less(t, stat().Anon.Value, int64(80<<20))
	shm := "/dev/shm/" + unique()
	if err := os.MkdirAll("/dev/shm", 0o755); err != nil || !isTmpfs("/dev/shm") {
		shm = t.TempDir() + "/file"
		require.True(t, isTmpfs(shm[:strings.LastIndex(shm, "/")]), "no tmpfs")
	}
	t.Cleanup(func() { os.Remove(shm) })
	require.NoError(t, inside(t, g, "dd", "if=/dev/zero", "of="+shm, "bs=1M", "count=20").Run())
	eventually(t, func() bool { return stat().Shmem.Value > 19<<20 && stat().File.Value > 19<<20 })
	none, err := tree.New("none", Limits{PIDs: 3})
	require.NoError(t, err)
	_, err = none.MemoryStat()
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

func isTmpfs(dir string) bool {
	var st syscall.Statfs_t
	return syscall.Statfs(dir, &st) == nil && st.Type == 0x01021994
}

func TestPressure(t *testing.T) {
	if has(t, Unified) {
		tree := openTree(t, Options{Controllers: Unified})
		g, err := tree.New("g", Limits{CPUSet: "0"})
		require.NoError(t, err)
		for range 3 { // on one processor
			run(t, insideHelper(t, g, "spin", "1h"))
		}
		eventually(t, func() bool {
			time.Sleep(100 * time.Millisecond) // who asks within a jiffy again is told of nothing
			p, err := g.Pressure()
			require.NoError(t, err)
			require.True(t, p.Memory.Some.Measured && p.Memory.Full.Measured && p.IO.Some.Measured)
			return p.CPU.Some.Measured && p.CPU.Some.Total > 50*time.Millisecond
		})
	}
	v1, err := openTree(t, Options{}).New("g", Limits{PIDs: 3})
	require.NoError(t, err)
	if v1.tree.Mode() != ModeV2 {
		_, err = v1.Pressure()
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.ErrorContains(t, err, "unified controller: ")
	}
	require.NoError(t, v1.Remove(limit(t)))
	_, err = v1.Pressure()
	require.ErrorIs(t, err, os.ErrClosed)
}

func TestParsePressure(t *testing.T) {
	p := parsePressure("some avg10=1.50 avg60=0.25 avg300=99.99 total=1234\nfull avg10=0.00 avg60=x avg300=0.00 total=1\n")
	require.Equal(t, Stalls{Some: Stall{Avg10: 1.5, Avg60: 0.25, Avg300: 99.99, Total: 1234 * time.Microsecond, Measured: true}}, p)
	require.Equal(t, Stalls{}, parsePressure(""))
}

// huge maps and touches so many huge pages of 2 MiB.
func huge(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	b, err := syscall.Mmap(-1, 0, n<<21, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANONYMOUS|syscall.MAP_HUGETLB)
	if err != nil {
		return err
	}
	for i := 0; i < len(b); i += 1 << 21 {
		b[i] = 1
	}
	fmt.Println("touched")
	if len(args) > 1 {
		time.Sleep(time.Hour)
	}
	runtime.KeepAlive(b)
	return nil
}

func TestHugeTLB(t *testing.T) {
	require.Equal(t, []string{"64KB", "2MB", "1GB", "16GB"}, []string{hugePage(64 << 10), hugePage(2 << 20), hugePage(1 << 30), hugePage(16 << 30)})
	// Pages that are allocated when they are touched.
	const file = "/proc/sys/vm/nr_overcommit_hugepages"
	old := slurp(file)
	require.NoError(t, os.WriteFile(file, []byte("8"), 0))
	t.Cleanup(func() { require.NoError(t, os.WriteFile(file, []byte(old), 0)) })
	const page = 2 << 20
	tree := openTree(t, Options{})
	g, err := tree.New("g", Limits{HugeTLB: map[int64]int64{page: 2 * page}})
	require.NoError(t, err)
	c := insideHelper(t, g, "huge", "2", "stay")
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	run(t, c)
	_, err = out.Read(make([]byte, 1))
	require.NoError(t, err)
	u, err := g.Usage()
	require.NoError(t, err)
	require.Equal(t, int64(2*page), u.HugeTLB[page])
	require.NoError(t, g.Kill(limit(t)))
	bus := func(n string) bool {
		var e *exec.ExitError
		b, err := insideHelper(t, g, "huge", n).CombinedOutput()
		t.Logf("%v: %.200s", err, b)
		return errors.As(err, &e) && !strings.Contains(string(b), "touched")
	}
	require.True(t, bus("3"))
	require.NoError(t, g.Update(Limits{HugeTLB: map[int64]int64{page: 3 * page}}))
	require.False(t, bus("3"))
	require.NoError(t, g.Update(Limits{HugeTLB: map[int64]int64{page: 0}}))
	require.True(t, bus("1"))
	require.NoError(t, g.Update(Limits{}))
	require.False(t, bus("3"))
	_, err = tree.New("odd", Limits{HugeTLB: map[int64]int64{8 << 10: 0}})
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.ErrorContains(t, err, "no pages of 8192 bytes here")
}
