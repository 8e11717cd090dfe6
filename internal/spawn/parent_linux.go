package spawn

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dieWithParent arranges that the kernel kills the child when the thread that made
// it ends (PR_SET_PDEATHSIG), which does nothing where that has already happened: so
// the thread must be seen alive after it. prctl(2) lists what clears the signal (a
// change of ids, some execs), so this is called again after the last of them.
//
// It is the thread that must be alive, not its process: when the embedder is killed
// its threads end one by one, each child is told by its own, and only once. And alive
// is before the kernel comes to tell: it changes a robust futex in exit_mm, and sends
// the signal in exit_notify, which comes later (do_exit in kernel/exit.c).
func (p *Program) dieWithParent() {
	p.Do("prctl PR_SET_PDEATHSIG", "", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL), 0, 0, 0)
	// With nobody to wake and to requeue this compares *parent with the thread's id, and no more.
	p.Zero("futex", "the embedder's thread", unix.SYS_FUTEX, p.parent, futexCmpRequeuePrivate, 0, 0, p.parent+4, p.thread)
}

// futexCmpRequeuePrivate is FUTEX_CMP_REQUEUE_PRIVATE (linux/futex.h).
const futexCmpRequeuePrivate = 4 | 128

// bindToThread makes p.parent, a futex that this thread seems to hold: the kernel
// changes its word when the thread ends (get_robust_list(2)). release, to be called on the
// same thread, gives it the list back that it had, which is the C library's in a
// program with cgo.
func (p *Program) bindToThread() (release func()) {
	p.thread = unix.Gettid()
	p.parent = p.Words(uintptr(p.thread)) // 32 bits of it, and 32 that are 0
	// struct robust_list_head: an empty list, and a futex that is about to be on it.
	b, head := p.alloc(int(headSize))
	*(*robustListHead)(unsafe.Pointer(&b[0])) = robustListHead{list: head, pending: p.parent}
	var old, size uintptr
	_, _, errno := unix.RawSyscall(unix.SYS_GET_ROBUST_LIST, 0, uintptr(unsafe.Pointer(&old)), uintptr(unsafe.Pointer(&size)))
	if errno == 0 {
		errno = setRobustList(head, headSize)
	}
	if errno != 0 {
		p.fail(os.NewSyscallError("set_robust_list", errno))
	}
	return func() { setRobustList(old, size) }
}

func setRobustList(head, size uintptr) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_SET_ROBUST_LIST, head, size, 0)
	return errno
}

// robustListHead is struct robust_list_head (linux/futex.h).
type robustListHead struct{ list, offset, pending uintptr }

const headSize = unsafe.Sizeof(robustListHead{})
