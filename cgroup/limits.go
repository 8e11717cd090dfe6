package cgroup

import (
	"errors"
	"math"
)

// Unlimited as Limits.Swap lets a group with a memory limit use swap without bound.
const Unlimited = -1

// cfsPeriod is the kernel's default period of CPU bandwidth control in microseconds.
const cfsPeriod = 100_000

// minQuota is the smallest quota the kernel accepts, in microseconds (min_cfs_quota_period in kernel/sched/core.c).
const minQuota = 1000

// Limits bound what the processes of a group and of the groups below it use together. The zero value limits nothing.
// Where a group and one above it both have a limit, the tighter holds.
type Limits struct {
	// Memory in bytes, page cache and kernel memory included; 0: no limit. The kernel rounds it down to whole pages.
	Memory int64
	// Swap in bytes on top of Memory. 0: with a Memory limit none may be used, so that Memory is the whole; without
	// one, no limit. Unlimited: no limit. A bound above 0 needs Memory and swap accounting (swapaccount=1).
	Swap int64
	// PIDs is the number of tasks (processes and threads); 0: no limit.
	PIDs int64
	// CPUs is CPU time per time, 0.5 being half a processor; 0: no limit, the smallest is 0.01. What exceeds it waits
	// for the next period of 100 ms.
	CPUs float64
	// CPUSet lists allowed processors in the kernel's format, "0-2,7"; empty: no limit. Only those that the groups
	// above allow, too, count.
	CPUSet string
}

// Validate returns every fault that can be seen without a kernel, joined; each is a *FieldError (fs.ErrInvalid).
func (l Limits) Validate() error {
	var errs []error
	bad := func(field string, v any, reason string) {
		errs = append(errs, &FieldError{Field: field, Value: v, Reason: reason})
	}
	if l.Memory < 0 {
		bad("Memory", l.Memory, "negative")
	}
	switch {
	case l.Swap < Unlimited:
		bad("Swap", l.Swap, "negative")
	case l.Swap > 0 && l.Memory == 0:
		bad("Swap", l.Swap, "needs a Memory limit")
	case l.Swap > 0 && l.Memory > math.MaxInt64-l.Swap:
		bad("Swap", l.Swap, "overflows together with Memory")
	}
	if l.PIDs < 0 {
		bad("PIDs", l.PIDs, "negative")
	}
	if reason := badCPUs(l.CPUs); reason != "" {
		bad("CPUs", l.CPUs, reason)
	}
	if l.CPUSet != "" {
		if set, err := parseCPUSet(l.CPUSet); err != nil {
			bad("CPUSet", l.CPUSet, err.Error())
		} else if set.empty() {
			bad("CPUSet", l.CPUSet, "no processor in it")
		}
	}
	return errors.Join(errs...)
}

func badCPUs(c float64) string {
	switch {
	case math.IsNaN(c) || math.IsInf(c, 0):
		return "not a number of processors"
	case c < 0:
		return "negative"
	case c > 0 && quota(c) < minQuota:
		return "below 0.01, the least that the kernel enforces (1 ms in a period of 100 ms)"
	case c > 1<<20:
		return "more processors than Linux has"
	}
	return ""
}

// quota is the CPU time per period in microseconds; 0 for no limit.
func quota(cpus float64) int64 { return int64(math.Round(cpus * cfsPeriod)) }

// needs are the controllers without which the limits could not be enforced.
func (l Limits) needs() Controllers {
	var c Controllers
	for _, n := range []struct {
		asked bool
		c     Controllers
	}{
		{l.Memory > 0, Memory}, {l.PIDs > 0, PIDs}, {l.CPUs > 0, CPU}, {l.CPUSet != "", CPUSet},
	} {
		if n.asked {
			c |= n.c
		}
	}
	return c
}
