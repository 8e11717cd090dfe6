package cgroup

import (
	"math"
	"strconv"
)

// setting is one write to a file of a group.
type setting struct{ file, value string }

// settings are the writes that make l hold in h, the same files in the same order for any l.
func (m *machine) settings(h *hierarchy, own Controllers, l Limits) []setting {
	var s []setting
	has := func(c Controllers) bool { return h.ctl&own&c != 0 }
	if has(Memory) {
		s = append(s, m.memory(h, l)...)
	}
	if has(PIDs) {
		s = append(s, setting{"pids.max", orMax(l.PIDs)})
	}
	if has(CPU) && h.v2 {
		s = append(s, setting{"cpu.max", orMax(quota(l.CPUs)) + " " + strconv.Itoa(cfsPeriod)})
	} else if has(CPU) {
		s = append(s, setting{"cpu.cfs_quota_us", orMinus(quota(l.CPUs))})
	}
	if has(CPUSet) {
		s = append(s, setting{"cpuset.cpus", l.CPUSet})
	}
	return s
}

// swapSlack is how far a v1 limit of memory with swap stays above that of memory where no swap is allowed. It is asked
// first, so were they equal the limit of memory would never be hit, and memory.memsw.failcnt does not tell: in Linux
// 6.18 it stays 0. More than a huge page (2 MiB), so that no charge is refused by it.
const swapSlack = 4 << 20

func (m *machine) memory(h *hierarchy, l Limits) []setting {
	free, none := l.Memory == 0 || l.Swap == Unlimited, l.Memory > 0 && l.Swap == 0
	if h.v2 {
		swap := strconv.FormatInt(l.Swap, 10)
		if free {
			swap = "max"
		}
		return []setting{{"memory.max", orMax(l.Memory)}, {"memory.swap.max", swap}}
	}
	s := []setting{{"memory.limit_in_bytes", orMinus(l.Memory)}}
	if !m.noMemsw {
		s = append(s, setting{"memory.memsw.limit_in_bytes", memsw(l, free, none)})
	}
	// Unlike global reclaim, reclaim for a v1 limit honours a swappiness of 0 as "never"
	// (Documentation/admin-guide/cgroup-v1/memory.rst, 5.3); 60 is the kernel's default.
	if none {
		return append(s, setting{"memory.swappiness", "0"})
	}
	return append(s, setting{"memory.swappiness", "60"})
}

// memsw is the limit of memory with swap.
func memsw(l Limits, free, none bool) string {
	switch {
	case free || none && l.Memory > math.MaxInt64-swapSlack:
		return "-1"
	case none:
		return strconv.FormatInt(l.Memory+swapSlack, 10)
	}
	return strconv.FormatInt(l.Memory+l.Swap, 10)
}

func orMax(n int64) string {
	if n == 0 {
		return "max"
	}
	return strconv.FormatInt(n, 10)
}

func orMinus(n int64) string {
	if n == 0 {
		return "-1"
	}
	return strconv.FormatInt(n, 10)
}

// changes are the writes that lead from one state to the other. The kernel wants v1's memory limit never above that
// of memory with swap: raising begins with the latter.
func changes(from, to []setting) []setting {
	var s []setting
	for i, t := range to {
		if from[i].value != t.value {
			s = append(s, t)
		}
	}
	if len(s) > 1 && s[1].file == "memory.memsw.limit_in_bytes" && raises(from, s[1]) {
		s[0], s[1] = s[1], s[0]
	}
	return s
}

func raises(from []setting, to setting) bool {
	if to.value == "-1" {
		return true
	}
	for _, f := range from {
		if f.file == to.file && f.value != "-1" {
			a, _ := strconv.ParseInt(f.value, 10, 64)
			b, _ := strconv.ParseInt(to.value, 10, 64)
			return b > a
		}
	}
	return false
}

// supported refuses a swap limit that this machine can't hold.
func (m *machine) supported(l Limits) error {
	if err := m.check(l.needs()); err != nil {
		return err
	}
	if l.Swap > 0 && m.noMemsw {
		return &UnsupportedError{What: "swap limit", Remedy: "boot with swapaccount=1"}
	}
	return nil
}
