package cgroup

import (
	"errors"
	"maps"
	"math"
	"slices"
	"time"
)

// Unlimited as Limits.Swap lets a group with a memory limit use swap without bound.
const Unlimited = -1

// Limits bound what the processes of a group and of the groups below it use together. The zero value limits nothing.
// Where a group and one above it both have a limit, the tighter holds.
type Limits struct {
	// Memory in bytes, page cache and kernel memory included; 0: no limit. The kernel rounds it down to whole pages.
	Memory int64
	// MemoryHigh in bytes: what uses more is slowed down and made to give memory back, not killed; 0: no limit. v2.
	MemoryHigh int64
	// MemoryLow in bytes: what uses less is spared while the machine can take memory from others; 0: no protection.
	// It protects as far as the groups above have it, too, and Options.Parent with those above that. v2: the soft limit
	// of v1 is the opposite, for groups that have one are reclaimed from before all those that have none.
	MemoryLow int64
	// Swap in bytes on top of Memory. 0: with a Memory limit none may be used, so that Memory is the whole; without
	// one, no limit. Unlimited: no limit. A bound above 0 needs Memory and swap accounting (swapaccount=1).
	Swap int64
	// HugeTLB maps a huge page's size to the bytes of such pages that may be used, 0 being none; no limit for sizes
	// that are not in it. Memory does not count them.
	HugeTLB map[int64]int64
	// PIDs is the number of tasks (processes and threads); 0: no limit.
	PIDs int64
	// CPUs is CPU time per time, 0.5 being half a processor; 0: no limit. What exceeds it waits for the next
	// CPUPeriod, of which it has to be 1 ms at least: 0.01 is the smallest with the default.
	CPUs float64
	// CPUPeriod is how often CPUs is granted anew, from 1 ms to 1 s; 0: 100 ms. Shorter ones stop a busy program more
	// often and for less long. Needs CPUs.
	CPUPeriod time.Duration
	// CPUWeight is the share of processors that are short, 1 to 10000, relative to that of the groups beside it; 0: 100,
	// the kernel's default. On v1 it becomes cpu.shares, 1024 for 100.
	CPUWeight int
	// CPUSet lists allowed processors in the kernel's format, "0-2,7"; empty: no limit. Only those that the groups
	// above allow, too, count.
	CPUSet string
	// IO bounds the rates of disks, each at most once; those that it does not name have no limit. On v1 the limits of
	// different groups know nothing of each other: there no group below one with IO can have the IO controller.
	IO []IOLimit
	// IOWeight is the share of disks that are busy, 1 to 10000, relative to that of the groups beside it; 0: 100, the
	// kernel's default. The kernel heeds it on disks that have the scheduler bfq or, on v2, io.cost enabled.
	IOWeight int
	// Devices lists what device nodes may be used for, in the format of v1's devices.allow: "c 1:3 rw" is reading and
	// writing (m: making) the character device 1:3, "b 8:* r" reading each block device with major number 8.
	// nil: no limit; empty: none may be used. See StandardDevices. Only what the groups above allow, too, counts.
	Devices []string
}

// IsZero reports whether l limits nothing.
func (l Limits) IsZero() bool { return l.equal(Limits{}) }

func (l Limits) equal(o Limits) bool {
	return l.sameAmounts(o) && l.sameShares(o)
}

// sameAmounts compares what a group's processes may hold, which does not depend on other groups.
func (l Limits) sameAmounts(o Limits) bool {
	return l.Memory == o.Memory && l.MemoryHigh == o.MemoryHigh && l.MemoryLow == o.MemoryLow && l.Swap == o.Swap &&
		l.PIDs == o.PIDs && maps.Equal(l.HugeTLB, o.HugeTLB)
}

// sameShares compares the rest.
func (l Limits) sameShares(o Limits) bool {
	return l.CPUs == o.CPUs && l.CPUPeriod == o.CPUPeriod && l.CPUWeight == o.CPUWeight && l.CPUSet == o.CPUSet &&
		l.IOWeight == o.IOWeight && slices.Equal(l.IO, o.IO) && l.sameDevices(o)
}

func (l Limits) sameDevices(o Limits) bool {
	return slices.Equal(l.Devices, o.Devices) && (l.Devices == nil) == (o.Devices == nil)
}

// withShares is l with o's shares.
func (l Limits) withShares(o Limits) Limits {
	l.CPUs, l.CPUPeriod, l.CPUWeight, l.CPUSet = o.CPUs, o.CPUPeriod, o.CPUWeight, o.CPUSet
	l.IO, l.IOWeight, l.Devices = o.IO, o.IOWeight, o.Devices
	return l
}

// clone is a copy that shares nothing with the caller.
func (l Limits) clone() Limits {
	l.HugeTLB, l.IO, l.Devices = maps.Clone(l.HugeTLB), slices.Clone(l.IO), slices.Clone(l.Devices)
	return l
}

// Validate returns every fault that can be seen without a kernel, joined; each is a *FieldError (fs.ErrInvalid).
func (l Limits) Validate() error {
	var f fieldErrors
	l.validateMemory(&f)
	l.validateCPU(&f)
	if l.PIDs < 0 {
		f.add("PIDs", l.PIDs, "negative")
	}
	for i, d := range l.IO {
		d.validate(&f, i)
	}
	f.weight("IOWeight", l.IOWeight)
	l.validateDevices(&f)
	return f.join()
}

func (l Limits) validateMemory(f *fieldErrors) {
	for _, v := range []struct {
		field string
		n     int64
	}{{"Memory", l.Memory}, {"MemoryHigh", l.MemoryHigh}, {"MemoryLow", l.MemoryLow}} {
		if v.n < 0 {
			f.add(v.field, v.n, "negative")
		}
	}
	switch {
	case l.Swap < Unlimited:
		f.add("Swap", l.Swap, "negative")
	case l.Swap > 0 && l.Memory == 0:
		f.add("Swap", l.Swap, "needs a Memory limit")
	case l.Swap > 0 && l.Memory > math.MaxInt64-l.Swap:
		f.add("Swap", l.Swap, "overflows together with Memory")
	}
	for _, size := range slices.Sorted(maps.Keys(l.HugeTLB)) {
		if reason := badHugeTLB(size, l.HugeTLB[size]); reason != "" {
			f.add("HugeTLB", l.HugeTLB, reason)
		}
	}
}

// fieldErrors gathers what is wrong with an Options or a Limits.
type fieldErrors []error

func (f *fieldErrors) add(field string, v any, reason string) {
	*f = append(*f, &FieldError{Field: field, Value: v, Reason: reason})
}

// weight checks one in v2's range; 0 is the default.
func (f *fieldErrors) weight(field string, w int) {
	if w < 0 || w > 10000 {
		f.add(field, w, "not from 1 to 10000")
	}
}

func (f *fieldErrors) join() error { return errors.Join(*f...) }

// needs are the controllers without which the limits could not be enforced.
func (l Limits) needs() Controllers {
	var c Controllers
	for _, n := range [...]struct {
		asked bool
		c     Controllers
	}{
		{l.Memory > 0 || l.MemoryHigh > 0 || l.MemoryLow > 0, Memory}, {l.PIDs > 0, PIDs},
		{l.CPUs > 0 || l.CPUWeight > 0, CPU}, {l.CPUSet != "", CPUSet}, {len(l.IO) > 0 || l.IOWeight > 0, IO},
		{len(l.HugeTLB) > 0, HugeTLB}, {l.Devices != nil, Devices},
	} {
		if n.asked {
			c |= n.c
		}
	}
	return c
}
