// Package plan is what the host tells the first program of a guest to do, and how that tells what came of it.
package plan

import "fmt"

// File is where the guest finds its plan, as JSON.
const File = "/plan.json"

// A Plan is what a guest does between its start and its end.
type Plan struct {
	Modules  []string  // files of kernel modules, in the order in which they are loaded
	Disk     string    // a block device with an ext4 file system that becomes the root; "": the initramfs stays it
	Payload  string    // a directory of the initramfs whose content is copied into the root; "": none
	Cgroup   string    // what is mounted: Cgroup…
	Results  string    // the device that programs write to, which the kernel does not; "": the console
	Programs []Program // run one after the other, each also after one that failed
}

// What of cgroups a guest mounts.
const (
	CgroupNone   = ""
	CgroupV1     = "v1"     // each controller for itself, and the named hierarchy of a service manager
	CgroupV2     = "v2"     // for a kernel that was started with cgroup_no_v1=all
	CgroupHybrid = "hybrid" // v1, and v2 without controllers at /sys/fs/cgroup/unified
)

// A Program is run as root. Its standard output and error are the results.
type Program struct {
	Name string // of no meaning to the guest
	Dir  string
	Args []string // Args[0] is its path
	Env  []string
}

// Begin is the line before the output of a program.
func (p Program) Begin() string { return "guest: begin " + p.Name }

// End is the line after the output of a program; err is nil when it exited with 0.
func (p Program) End(err error) string { return fmt.Sprintf("guest: end %s: %v", p.Name, err) }

// Done is the last line.
func Done(err error) string { return fmt.Sprintf("guest: done: %v", err) }
