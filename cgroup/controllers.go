package cgroup

import "strings"

// Controllers is a set of cgroup controllers and core features.
type Controllers uint32

// What a group can have. An unused one costs a directory on v1, and on v2 some accounting. On v1 each is its own hierarchy or shares one; on v2 all share one directory.
const (
	Memory  Controllers = 1 << iota // memory limit, peak and OOM counters
	PIDs                            // number of tasks
	CPU                             // bandwidth (quota) and throttling counters
	CPUAcct                         // CPU time used; on v2 part of every group
	CPUSet                          // allowed processors
	Freezer                         // stop and go on; on v2 part of every group (Linux 5.2)
	IO                              // rates of disks, bytes and operations; v1: blkio
	HugeTLB                         // huge pages
	Devices                         // device nodes; on v2 part of every group, by BPF (Linux 4.15)
	Unified                         // the v2 directory itself, also where v1 has the controllers: atomic kill (Linux 5.14)

	// Accounting is what Usage needs to be complete.
	Accounting = Memory | PIDs | CPUAcct

	// core are v2's that every group has, without a name in cgroup.controllers.
	core = CPUAcct | Freezer | Devices | Unified
	all  = Memory | PIDs | CPU | CPUAcct | CPUSet | Freezer | IO | HugeTLB | Devices | Unified
)

// controllerNames are the kernel's, in the order in which a child joins: the freezer and cpu come last, so that neither
// a frozen nor a throttled group delays the joining of the others.
var controllerNames = [...]struct {
	c    Controllers
	name string
}{
	{Memory, "memory"}, {PIDs, "pids"}, {CPUAcct, "cpuacct"}, {CPUSet, "cpuset"}, {IO, "io"}, {HugeTLB, "hugetlb"},
	{Devices, "devices"}, {Unified, "unified"}, {Freezer, "freezer"}, {CPU, "cpu"},
}

// blkio is the name of IO on v1.
const blkio = "blkio"

// String lists the kernel's names, separated by commas; "none" for the empty set.
func (c Controllers) String() string {
	var s []string
	for _, n := range controllerNames {
		if c&n.c != 0 {
			s = append(s, n.name)
		}
	}
	if len(s) == 0 {
		return "none"
	}
	return strings.Join(s, ",")
}

// parseControllers reads names that sep separates and skips those that this package has no use for.
func parseControllers(s string, sep func(rune) bool) Controllers {
	var c Controllers
	for _, f := range strings.FieldsFunc(s, sep) {
		for _, n := range controllerNames {
			if (f == n.name || n.c == IO && f == blkio) && n.c != Unified {
				c |= n.c
			}
		}
	}
	return c
}

// Mode says which cgroup versions are mounted.
type Mode string

// The modes; a machine without any cgroup mount has the empty Mode.
const (
	ModeV1     Mode = "v1"
	ModeV2     Mode = "v2"
	ModeHybrid Mode = "hybrid" // v1 controllers, and a v2 tree beside them
)
