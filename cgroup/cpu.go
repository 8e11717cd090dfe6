package cgroup

import (
	"math"
	"time"
)

// defaultPeriod is the kernel's of CPU bandwidth control.
const defaultPeriod = 100 * time.Millisecond

// The kernel's bounds of a period and of the quota in it (min_cfs_quota_period, max_cfs_quota_period in
// kernel/sched/core.c).
const (
	minQuota  = time.Millisecond
	maxPeriod = time.Second
)

// The kernel's defaults, of v1's cpu.shares and of v2's weights.
const (
	defaultShares = 1024
	defaultWeight = 100
)

func (l Limits) validateCPU(f *fieldErrors) {
	if reason := l.badPeriod(); reason != "" {
		f.add("CPUPeriod", l.CPUPeriod, reason)
		l.CPUPeriod = 0
	}
	if reason := l.badCPUs(); reason != "" {
		f.add("CPUs", l.CPUs, reason)
	}
	f.weight("CPUWeight", l.CPUWeight)
	if l.CPUSet == "" {
		return
	}
	if set, err := parseCPUSet(l.CPUSet); err != nil {
		f.add("CPUSet", l.CPUSet, err.Error())
	} else if set.empty() {
		f.add("CPUSet", l.CPUSet, "no processor in it")
	}
}

func (l Limits) badPeriod() string {
	switch p := l.CPUPeriod; {
	case p == 0:
		return ""
	case p < minQuota || p > maxPeriod:
		return "not from 1ms to 1s"
	case p%time.Microsecond != 0:
		return "not a whole number of microseconds"
	case l.CPUs == 0:
		return "needs CPUs"
	}
	return ""
}

func (l Limits) badCPUs() string {
	switch c := l.CPUs; {
	case math.IsNaN(c) || math.IsInf(c, 0):
		return "not a number of processors"
	case c < 0:
		return "negative"
	case c > 1<<20:
		return "more processors than Linux has"
	case c > 0 && l.quota() < minQuota && l.CPUPeriod == 0:
		return "below 0.01, the least that the kernel enforces (1 ms in a period of 100 ms)"
	case c > 0 && l.quota() < minQuota:
		return "less than 1 ms of a CPUPeriod, the least that the kernel enforces"
	}
	return ""
}

func (l Limits) period() time.Duration {
	if l.CPUPeriod == 0 {
		return defaultPeriod
	}
	return l.CPUPeriod
}

// quota is the CPU time per period, in whole microseconds; 0 for no limit. It is rounded down: v1 refuses a quota that
// is by a single one more than a group above allows. (What is added makes 0.57 of 100,000 57,000.)
func (l Limits) quota() time.Duration {
	return time.Duration(math.Floor(l.CPUs*float64(l.period().Microseconds())+1e-6)) * time.Microsecond
}

// granted is CPUs as the kernel will reckon it; 0 for no limit.
func (l Limits) granted() float64 { return float64(l.quota()) / float64(l.period()) }

// shares is the weight in v1's terms, default for default as systemd does (cgroup_weight_cpu_to_shares): twice the weight
// of a neighbour is twice the CPU time, on v1 as on v2.
func shares(weight int) int { return max(2, weight*defaultShares/defaultWeight) }

func orDefault(weight int) int {
	if weight == 0 {
		return defaultWeight
	}
	return weight
}
