package cgroup

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// writes are what settings come to.
func writes(s []setting) (w []string) {
	for _, x := range s {
		w = append(w, x.file+"="+x.value)
	}
	return w
}

func TestSettings(t *testing.T) {
	const limited = Memory | PIDs | CPU | CPUSet
	v1 := &hierarchy{ctl: limited | IO | HugeTLB}
	v2 := &hierarchy{ctl: limited | IO | HugeTLB, v2: true}
	l := Limits{Memory: 1 << 20, PIDs: 7, CPUs: 0.5, CPUSet: "0"}
	disks := Limits{IO: []IOLimit{{Device: "8:0", ReadBPS: 5, WriteIOPS: 7}}, HugeTLB: map[int64]int64{2 << 20: 4 << 20, 1 << 30: 0, 64 << 10: 1}}
	for _, c := range []struct {
		name string
		m    machine
		h    *hierarchy
		own  Controllers
		l    Limits
		want []string
	}{
		{"v1", machine{}, v1, limited, l, []string{"memory.limit_in_bytes=1048576", "memory.memsw.limit_in_bytes=5242880", "memory.swappiness=0",
			"pids.max=7", "cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000", "cpu.shares=1024", "cpuset.cpus=0"}},
		{"v2", machine{}, v2, limited, l, []string{"memory.max=1048576", "memory.swap.max=0", "memory.high=max", "memory.low=0",
			"pids.max=7", "cpu.max=50000 100000", "cpu.weight=100", "cpuset.cpus=0"}},
		{"v2 none", machine{}, v2, limited, Limits{}, []string{"memory.max=max", "memory.swap.max=max", "memory.high=max", "memory.low=0",
			"pids.max=max", "cpu.max=max 100000", "cpu.weight=100", "cpuset.cpus=\n"}},
		{"v2 soft", machine{}, v2, Memory, Limits{MemoryHigh: 5, MemoryLow: 3}, []string{"memory.max=max", "memory.swap.max=max", "memory.high=5", "memory.low=3"}},
		{"v2 swap", machine{}, v2, Memory, Limits{Memory: 5, Swap: 3}, []string{"memory.max=5", "memory.swap.max=3", "memory.high=max", "memory.low=0"}},
		{"v2 free swap", machine{}, v2, Memory, Limits{Memory: 5, Swap: -1}, []string{"memory.max=5", "memory.swap.max=max", "memory.high=max", "memory.low=0"}},
		{"v1 swap", machine{}, v1, Memory, Limits{Memory: 5, Swap: 3}, []string{"memory.limit_in_bytes=5", "memory.memsw.limit_in_bytes=8", "memory.swappiness=60"}},
		{"v1 free swap", machine{}, v1, Memory, Limits{Memory: 5, Swap: -1}, []string{"memory.limit_in_bytes=5", "memory.memsw.limit_in_bytes=-1", "memory.swappiness=60"}},
		{"v1 huge", machine{}, v1, Memory, Limits{Memory: math.MaxInt64 - 1}, []string{"memory.limit_in_bytes=9223372036854775806", "memory.memsw.limit_in_bytes=-1", "memory.swappiness=0"}},
		{"v1 no accounting", machine{noMemsw: true}, v1, Memory, Limits{Memory: 5}, []string{"memory.limit_in_bytes=5", "memory.swappiness=0"}},
		{"v1 no accounting, none", machine{noMemsw: true}, v1, Memory, Limits{}, []string{"memory.limit_in_bytes=-1", "memory.swappiness=60"}},
		{"v1 cpu", machine{}, v1, CPU, Limits{CPUs: 0.57, CPUPeriod: 10 * time.Millisecond, CPUWeight: 10000}, []string{"cpu.cfs_period_us=10000", "cpu.cfs_quota_us=5700", "cpu.shares=102400"}},
		{"v1 light", machine{}, v1, CPU, Limits{CPUWeight: 1}, []string{"cpu.cfs_period_us=100000", "cpu.cfs_quota_us=-1", "cpu.shares=10"}},
		{"v2 cpu", machine{}, v2, CPU, Limits{CPUs: 2, CPUPeriod: time.Second, CPUWeight: 1}, []string{"cpu.max=2000000 1000000", "cpu.weight=1"}},
		{"v1 disks", machine{}, v1, IO | HugeTLB, disks, []string{"hugetlb.64KB.limit_in_bytes=1", "hugetlb.2MB.limit_in_bytes=4194304", "hugetlb.1GB.limit_in_bytes=0",
			"blkio.throttle.read_bps_device=8:0 5", "blkio.throttle.write_iops_device=8:0 7"}},
		{"v2 disks", machine{}, v2, IO | HugeTLB, disks, []string{"hugetlb.64KB.max=1", "hugetlb.2MB.max=4194304", "hugetlb.1GB.max=0",
			"io.max=8:0 rbps=5 wbps=max riops=max wiops=7"}},
		{"only what it owns", machine{}, v1, PIDs, l, []string{"pids.max=7"}},
	} {
		t.Run(c.name, func(t *testing.T) { require.Equal(t, c.want, writes(c.m.settings(c.h, c.own, c.l))) })
	}
}

// What is no longer limited loses its line.
func TestChangesLines(t *testing.T) {
	m, v1, v2 := machine{}, &hierarchy{ctl: IO | HugeTLB}, &hierarchy{ctl: IO | HugeTLB, v2: true}
	at := func(h *hierarchy, io ...IOLimit) []setting { return m.settings(h, IO, Limits{IO: io}) }
	a, b := IOLimit{Device: "8:0", ReadBPS: 5}, IOLimit{Device: "8:16", WriteBPS: 6}
	both := IOLimit{Device: "8:0", ReadBPS: 5, WriteBPS: 1}
	require.Equal(t, []string{"blkio.throttle.read_bps_device=8:0 0", "blkio.throttle.write_bps_device=8:16 6"}, writes(changes(at(v1, a), at(v1, b))))
	require.Equal(t, []string{"io.max=8:0 rbps=max wbps=max riops=max wiops=max", "io.max=8:16 rbps=max wbps=6 riops=max wiops=max"},
		writes(changes(at(v2, a), at(v2, b))))
	require.Equal(t, []string{"blkio.throttle.write_bps_device=8:0 0"}, writes(changes(at(v1, both, b), at(v1, b, a))))
	require.Empty(t, changes(at(v2, a, b), at(v2, b, a)), "in any order")
	pages := func(h *hierarchy, m map[int64]int64) []setting { return hugeTLBSettings(h, Limits{HugeTLB: m}) }
	two, none := map[int64]int64{2 << 20: 9}, map[int64]int64{}
	require.Equal(t, []string{"hugetlb.2MB.limit_in_bytes=-1"}, writes(changes(pages(v1, two), pages(v1, none))))
	require.Equal(t, []string{"hugetlb.2MB.max=max"}, writes(changes(pages(v2, two), pages(v2, none))))
}

// While the period changes no quota is in force that together with it could be more than above.
func TestChangesPeriod(t *testing.T) {
	m, h := machine{}, &hierarchy{ctl: CPU}
	at := func(cpus float64, period time.Duration) []setting {
		return m.settings(h, CPU, Limits{CPUs: cpus, CPUPeriod: period})
	}
	require.Equal(t, []string{"cpu.cfs_quota_us=-1", "cpu.cfs_period_us=10000", "cpu.cfs_quota_us=5000"}, writes(changes(at(0.05, 0), at(0.5, 10*time.Millisecond))))
	require.Equal(t, []string{"cpu.cfs_period_us=10000", "cpu.cfs_quota_us=5000"}, writes(changes(at(0, 0), at(0.5, 10*time.Millisecond))))
	require.Equal(t, []string{"cpu.cfs_quota_us=-1", "cpu.cfs_period_us=100000"}, writes(changes(at(0.5, 10*time.Millisecond), at(0, 0))))
	require.Equal(t, []string{"cpu.cfs_quota_us=10000"}, writes(changes(at(0.2, 0), at(0.1, 0))))
}

func TestSwapWithoutAccounting(t *testing.T) {
	m := machine{noMemsw: true, hier: []*hierarchy{{ctl: Memory}}}
	var e *UnsupportedError
	require.ErrorAs(t, m.supported(Limits{Memory: 5, Swap: 3}), &e)
	require.Equal(t, "swap limit", e.What)
	require.NoError(t, m.supported(Limits{Memory: 5}))
}

// The kernel's answer to the wrong order is EINVAL; TestUpdate has it on real files.
func TestChangesOrder(t *testing.T) {
	h := &hierarchy{ctl: Memory}
	m := machine{}
	at := func(mem, swap int64) []setting { return m.settings(h, Memory, Limits{Memory: mem, Swap: swap}) }
	files := func(from, to []setting) (f []string) {
		for _, s := range changes(from, to) {
			if s.file != "memory.swappiness" {
				f = append(f, s.file)
			}
		}
		return f
	}
	const mem, both = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
	require.Equal(t, []string{mem, both}, files(at(0, 0), at(5, 0)), "from none")
	require.Equal(t, []string{both, mem}, files(at(5, 0), at(9, 0)), "up")
	require.Equal(t, []string{mem, both}, files(at(9, 0), at(5, 0)), "down")
	require.Equal(t, []string{both, mem}, files(at(9, 0), at(0, 0)), "to none")
	require.Empty(t, files(at(9, 0), at(9, 0)))
}
