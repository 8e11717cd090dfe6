package spawn

import "unsafe"

// header is what the assembly works from. The child shares it with us.
type header struct {
	args  cloneArgs // must be first: handed to clone3(2) as it is
	all   uint64    // the signal mask with everything blocked
	old   uint64    // the caller's signal mask, put back after the clone
	first uintptr   // the address of the first entry
	stop  uintptr   // the address of the entry that stopped the program, 0 if none did
	pidfd int32     // CLONE_PIDFD: the first child, in the embedder's table
	child int32     // CLONE_PARENT_SETTID: its pid; 0 until it is there, and pidfd is valid
}

// cloneArgs is struct clone_args of clone3(2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal uint64
	stack, stackSize, tls, setTID, setTIDSize     uint64
	cgroup                                        uint64
}

// entry is one system call of a program. neg, zero and pos say where to go on
// for a negative, zero and positive result: a distance in bytes, 0 to stop.
type entry struct {
	nr             uintptr
	args           [6]uintptr
	ret            uintptr
	out            uintptr // if set, the address of an int32 that takes the result too
	mask           uint32  // bit i: args[i] is the address of the argument, another entry's ret
	neg, zero, pos int32
}

const entrySize = int32(unsafe.Sizeof(entry{}))

// clone runs clone3 with h.args; the child runs the program. It returns the
// child's pid or a negated errno, once the child has exec'ed or ended.
//
//go:noescape
func clone(h *header) uintptr

//go:linkname entersyscall runtime.entersyscall
func entersyscall()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()

// blockingClone hands this thread to the runtime as blocked for as long as
// the child keeps it in vfork, so that no stop-the-world waits for it.
//
// Nothing between entersyscall and exitsyscall may grow the stack.
//
//go:nosplit
//go:norace
func blockingClone(h *header) uintptr {
	entersyscall()
	r := clone(h)
	exitsyscall()
	return r
}
