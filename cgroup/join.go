package cgroup

import (
	"errors"
	"os"
)

// Join is what a child needs to enter a group by itself between clone and exec, which is faster than Group.Add by
// milliseconds on an idle machine and leaves no instant in which the program runs outside.
type Join struct {
	// Tasks are v1's: open for writing; the child, having one thread, writes "0" to each in this order.
	Tasks []*os.File
	// Dir is v2's directory, for clone3's CLONE_INTO_CGROUP (Linux 5.7; SysProcAttr.CgroupFD); nil: none. The kernel
	// kills the child at once (seen on 6.1 to 6.18) if somebody has written to cgroup.kill of this cgroup or the caller's
	// own, and not as often to the other's; this package does so only to what it removes. See the package for CPUSet.
	Dir *os.File

	back func(*Join) error // takes it back for its leaf; nil: Close closes it
}

// Close closes the descriptors, those of a leaf within milliseconds in the background; those who joined stay in. The
// caller of Group.Join calls it, best as soon as the child is in: then the background does its work while the child
// runs. The files must not be used after it.
func (j *Join) Close() error {
	if back := j.back; back != nil {
		files := &Join{Tasks: j.Tasks, Dir: j.Dir}
		*j = Join{}
		return back(files)
	}
	var errs []error
	for _, f := range j.Tasks {
		errs = append(errs, f.Close())
	}
	if j.Dir != nil {
		errs = append(errs, j.Dir.Close())
	}
	return errors.Join(errs...)
}
