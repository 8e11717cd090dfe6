package cgroup

import (
	"fmt"
	"time"
)

// Figure is a value that the kernel may or may not have given: a Value of 0 that is Measured really is 0.
type Figure[T int64 | time.Duration] struct {
	Value    T    // what was measured, else 0
	Measured bool // whether it was
}

// String is the value, or "unknown".
func (f Figure[T]) String() string {
	if !f.Measured {
		return "unknown"
	}
	return fmt.Sprint(f.Value)
}

// Usage is what the processes of a group and of the groups below it have used since the group was made. A figure is
// Measured when the group has the controller for it (Options.Controllers, or a limit that needs it).
type Usage struct {
	// CPU is exact, in nanoseconds (v2: microseconds). User and System add up to it (v2: but for one); their proportion is sampled by
	// the timer tick, as in getrusage(2).
	CPU, User, System Figure[time.Duration]
	// Memory and MemoryPeak are bytes with page cache and kernel memory (page tables, stacks, sockets), of files only
	// what the group was first to touch. The peak is exact (v2: Linux 5.19), and some pages above the limit where the
	// kernel lets a process that it has killed finish. Of a program that reads files it is what the cache was let
	// grow to; see MemoryStat for what the memory is.
	Memory, MemoryPeak Figure[int64]
	// PIDs and PIDsPeak are numbers of tasks; the peak needs Linux 6.1.
	PIDs, PIDsPeak Figure[int64]
	// ReadBytes, WriteBytes, ReadOps and WriteOps are what disks were asked for, the page cache not counted: a file that
	// is written is counted when the kernel writes it back, on v1 then for nobody unless the program waits for it.
	ReadBytes, WriteBytes, ReadOps, WriteOps Figure[int64]
	// HugeTLB maps a huge page's size to the bytes in use; nil when not measured.
	HugeTLB map[int64]int64
}

// MemoryStat says what the memory of a group and of the groups below it is, in bytes.
type MemoryStat struct {
	Anon  Figure[int64] // of processes alone: heap, stacks
	File  Figure[int64] // page cache, tmpfs and shared memory included
	Shmem Figure[int64] // tmpfs and shared memory alone, which can't be reclaimed without swap
	Swap  Figure[int64] // swapped out; with swap accounting (swapaccount=1)
}

// Events count how often limits were touched since the group was made. They are the group's own: what a limit of a
// group above or below did is counted there, but for OOMKills.
type Events struct {
	// MemoryHits counts charges that ran into the limit of memory, or of memory with swap. Reclaim may have served
	// them: a program that reads a large file touches the limit and comes to no harm.
	MemoryHits Figure[int64]
	// OOMKills counts processes of this very group that the OOM killer ended, for whichever limit: its own, that of
	// a group above or the host's. Without a rise of MemoryHits it was not its own.
	OOMKills Figure[int64]
	// OOMs counts how often there was no memory left within the group's own limit, with or without a kill. v2.
	OOMs Figure[int64]
	// PIDsHits counts forks that were refused (v1 and Linux before 6.11: also for the limit of a group above).
	PIDsHits Figure[int64]
	// Throttled counts periods in which the CPU limit stopped the group.
	Throttled Figure[int64]
	// ThrottledTime is for how long it did, summed over processors.
	ThrottledTime Figure[time.Duration]
}

// split divides the exact total by the sampled user and system times as the kernel does (cputime_adjust in
// kernel/sched/cputime.c): what was too short to be sampled counts as user time.
func split(total, user, system int64) (u, s time.Duration) {
	if system == 0 {
		return time.Duration(total), 0
	}
	s = time.Duration(float64(total) * (float64(system) / (float64(user) + float64(system))))
	return time.Duration(total) - s, s
}
