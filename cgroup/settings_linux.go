package cgroup

import (
	"errors"
	"maps"
	"math"
	"slices"
	"strconv"
)

// setting is one write to a file of a group.
type setting struct {
	file, key string // the key, of files with many lines, is what one of them is about
	value     string
	none      string // with a key: what takes the line out again
}

// settings are the writes that make l hold in h: the same files in the same order for any l, and lines with keys. Device
// nodes and the weight of disks have writes of their own.
func (m *machine) settings(h *hierarchy, own Controllers, l Limits) []setting {
	s := make([]setting, 0, 8)
	has := func(c Controllers) bool { return h.ctl&own&c != 0 }
	if has(Memory) {
		s = m.memory(s, h, l)
	}
	if has(PIDs) {
		s = append(s, setting{file: "pids.max", value: orMax(l.PIDs)})
	}
	if has(CPU) {
		s = cpuSettings(s, h, l)
	}
	if has(CPUSet) {
		set := l.CPUSet
		if set == "" {
			set = noCPUSet
		}
		s = append(s, setting{file: "cpuset.cpus", value: set})
	}
	if has(HugeTLB) {
		s = append(s, hugeTLBSettings(h, l)...)
	}
	if has(IO) {
		s = append(s, m.io(h, l)...)
	}
	return s
}

func cpuSettings(s []setting, h *hierarchy, l Limits) []setting {
	quota, period, weight := l.quota().Microseconds(), strconv.FormatInt(l.period().Microseconds(), 10), orDefault(l.CPUWeight)
	if h.v2 {
		return append(s, setting{file: "cpu.max", value: orMax(quota) + " " + period},
			setting{file: "cpu.weight", value: strconv.Itoa(weight)})
	}
	return append(s, setting{file: cfsPeriod, value: period}, setting{file: cfsQuota, value: orMinus(quota)},
		setting{file: "cpu.shares", value: strconv.Itoa(shares(weight))})
}

// noCPUSet is v2's for "as above": without a byte there would be no write.
const noCPUSet = "\n"

// v1's files of CPU bandwidth.
const cfsPeriod, cfsQuota = "cpu.cfs_period_us", "cpu.cfs_quota_us"

func hugeTLBSettings(h *hierarchy, l Limits) []setting {
	file, none := ".limit_in_bytes", "-1"
	if h.v2 {
		file, none = ".max", "max"
	}
	var s []setting
	for _, size := range slices.Sorted(maps.Keys(l.HugeTLB)) {
		name := "hugetlb." + hugePage(size) + file
		s = append(s, setting{name, name, strconv.FormatInt(l.HugeTLB[size], 10), none})
	}
	return s
}

// swapSlack is how far a v1 limit of memory with swap stays above that of memory where no swap is allowed. It is asked
// first, so were they equal the limit of memory would never be hit, and memory.memsw.failcnt does not tell: in Linux
// 6.18 it stays 0. More than a huge page (2 MiB), so that no charge is refused by it.
const swapSlack = 4 << 20

func (m *machine) memory(s []setting, h *hierarchy, l Limits) []setting {
	free, none := l.Memory == 0 || l.Swap == Unlimited, l.Memory > 0 && l.Swap == 0
	if h.v2 {
		swap := strconv.FormatInt(l.Swap, 10)
		if free {
			swap = "max"
		}
		return append(s, setting{file: "memory.max", value: orMax(l.Memory)}, setting{file: "memory.swap.max", value: swap},
			setting{file: "memory.high", value: orMax(l.MemoryHigh)},
			setting{file: "memory.low", value: strconv.FormatInt(l.MemoryLow, 10)})
	}
	s = append(s, setting{file: "memory.limit_in_bytes", value: orMinus(l.Memory)})
	if !m.noMemsw {
		s = append(s, setting{file: memswLimit, value: memsw(l, free, none)})
	}
	// Unlike global reclaim, reclaim for a v1 limit honours a swappiness of 0 as "never"
	// (Documentation/admin-guide/cgroup-v1/memory.rst, 5.3); 60 is the kernel's default.
	swappiness := "60"
	if none {
		swappiness = "0"
	}
	return append(s, setting{file: "memory.swappiness", value: swappiness})
}

const memswLimit = "memory.memsw.limit_in_bytes"

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
// of memory with swap: raising begins with the latter. A v1 quota is lifted while its period changes, for in between the
// two could be more than a group above allows.
func changes(from, to []setting) []setting {
	var s []setting
	for _, f := range from {
		if f.key != "" && find(to, f) < 0 {
			s = append(s, setting{file: f.file, value: f.none})
		}
	}
	lifted := false
	for _, t := range to {
		same := slices.Contains(from, t)
		if t.file == cfsQuota && lifted {
			same = t.value == "-1"
		}
		if same {
			continue
		}
		if t.file == cfsPeriod && valueOf(from, cfsQuota) != "-1" {
			lifted = true
			s = append(s, setting{file: cfsQuota, value: "-1"})
		}
		s = append(s, t)
	}
	if len(s) > 1 && s[1].file == memswLimit && raises(from, s[1]) {
		s[0], s[1] = s[1], s[0]
	}
	return s
}

func find(s []setting, what setting) int {
	return slices.IndexFunc(s, func(o setting) bool { return o.file == what.file && o.key == what.key })
}

func valueOf(s []setting, file string) string {
	if i := find(s, setting{file: file}); i >= 0 {
		return s[i].value
	}
	return ""
}

func raises(from []setting, to setting) bool {
	old := valueOf(from, to.file)
	if to.value == "-1" || old == "-1" {
		return to.value == "-1"
	}
	a, _ := strconv.ParseInt(old, 10, 64)
	b, _ := strconv.ParseInt(to.value, 10, 64)
	return b > a
}

// supported refuses what this machine can't hold.
func (m *machine) supported(l Limits) error {
	if err := m.check(l.needs()); err != nil {
		return err
	}
	if l.Swap > 0 && m.noMemsw {
		return &UnsupportedError{What: "swap limit", Remedy: "boot with swapaccount=1"}
	}
	for size := range l.HugeTLB {
		if !slices.Contains(hugePages(), size) {
			return &FieldError{"HugeTLB", l.HugeTLB, "no pages of " + strconv.FormatInt(size, 10) + " bytes here"}
		}
	}
	for _, h := range m.hier {
		if !h.v2 && h.ctl&Memory != 0 && (l.MemoryHigh > 0 || l.MemoryLow > 0) {
			return &UnsupportedError{What: "MemoryHigh and MemoryLow", Err: errors.New("v1 has none"),
				Remedy: "have the memory controller on v2: boot with cgroup_no_v1=memory"}
		}
	}
	return nil
}
