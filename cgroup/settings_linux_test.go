package cgroup

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSettings(t *testing.T) {
	v1 := &hierarchy{ctl: Memory | PIDs | CPU | CPUSet}
	v2 := &hierarchy{ctl: Memory | PIDs | CPU | CPUSet, v2: true}
	l := Limits{Memory: 1 << 20, PIDs: 7, CPUs: 0.5, CPUSet: "0"}
	for _, c := range []struct {
		name string
		m    machine
		h    *hierarchy
		own  Controllers
		l    Limits
		want []setting
	}{
		{"v1", machine{}, v1, v1.ctl, l, []setting{{"memory.limit_in_bytes", "1048576"},
			{"memory.memsw.limit_in_bytes", "5242880"}, {"memory.swappiness", "0"}, {"pids.max", "7"}, {"cpu.cfs_quota_us", "50000"}, {"cpuset.cpus", "0"}}},
		{"v2", machine{}, v2, v2.ctl, l, []setting{{"memory.max", "1048576"}, {"memory.swap.max", "0"},
			{"pids.max", "7"}, {"cpu.max", "50000 100000"}, {"cpuset.cpus", "0"}}},
		{"v2 none", machine{}, v2, v2.ctl, Limits{}, []setting{{"memory.max", "max"}, {"memory.swap.max", "max"},
			{"pids.max", "max"}, {"cpu.max", "max 100000"}, {"cpuset.cpus", ""}}},
		{"v2 swap", machine{}, v2, Memory, Limits{Memory: 5, Swap: 3}, []setting{{"memory.max", "5"}, {"memory.swap.max", "3"}}},
		{"v2 free swap", machine{}, v2, Memory, Limits{Memory: 5, Swap: -1}, []setting{{"memory.max", "5"}, {"memory.swap.max", "max"}}},
		{"v1 swap", machine{}, v1, Memory, Limits{Memory: 5, Swap: 3}, []setting{{"memory.limit_in_bytes", "5"}, {"memory.memsw.limit_in_bytes", "8"}, {"memory.swappiness", "60"}}},
		{"v1 free swap", machine{}, v1, Memory, Limits{Memory: 5, Swap: -1}, []setting{{"memory.limit_in_bytes", "5"}, {"memory.memsw.limit_in_bytes", "-1"}, {"memory.swappiness", "60"}}},
		{"v1 huge", machine{}, v1, Memory, Limits{Memory: math.MaxInt64 - 1}, []setting{{"memory.limit_in_bytes", "9223372036854775806"}, {"memory.memsw.limit_in_bytes", "-1"}, {"memory.swappiness", "0"}}},
		{"v1 no accounting", machine{noMemsw: true}, v1, Memory, Limits{Memory: 5}, []setting{{"memory.limit_in_bytes", "5"}, {"memory.swappiness", "0"}}},
		{"v1 no accounting, none", machine{noMemsw: true}, v1, Memory, Limits{}, []setting{{"memory.limit_in_bytes", "-1"}, {"memory.swappiness", "60"}}},
		{"only what it owns", machine{}, v1, PIDs, l, []setting{{"pids.max", "7"}}},
	} {
		t.Run(c.name, func(t *testing.T) { require.Equal(t, c.want, c.m.settings(c.h, c.own, c.l)) })
	}
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
