package spawn

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A child in a PID namespace where others live is in their sight from its birth: in /proc, for ptrace(2), pidfd_getfd(2) and
// signals. Once it has entered their user namespace it is their equal there, and whoever has CAP_SYS_PTRACE, or with the same
// ids no fewer capabilities, may work on it: seen with a child that shared the embedder's memory, by /proc/PID/mem.
//
// So such a child shares nothing but its program. It has a copy of the embedder's memory (a clone without CLONE_VM, at
// the cost of the embedder's page tables), and makes that not dumpable first, before it changes its ids or user
// namespace: ptrace_may_access() then asks for CAP_SYS_PTRACE in the user namespace that the memory came from,
// the embedder's. The flag is the copy's, so nothing of the embedder's has to be put back, and no other program can take it away
// meanwhile. With its exec the copy is gone.
//
// Its /proc/PID shows what needs no such rights, too: so it has a name of its own, and its copy of the embedder's arguments
// is blank. Its namespaces are those beside whom it is by then: it enters the PID namespace last.
//
// Who may send it signals can stop it, and with it this thread, until the context ends.

// What the memory of such a program has room for: more than execve(2) takes.
const (
	apartEntries = 4096
	apartSize    = 16 << 20
)

// hide adds the calls that leave nothing of the embedder to be read in the child's /proc/PID/comm and cmdline. (The last byte
// of the arguments must be 0: else the kernel goes on with the environment, get_mm_cmdline in fs/proc/base.c.)
func (p *Program) hide() {
	start, size, err := arguments()
	if err != nil {
		p.fail(err)
		return
	}
	p.Do("prctl PR_SET_NAME", "", unix.SYS_PRCTL, unix.PR_SET_NAME, "sandbox", 0, 0, 0)
	zeros := p.Do("memfd_create", "zeros", unix.SYS_MEMFD_CREATE, "zeros", unix.MFD_CLOEXEC)
	p.Do("ftruncate", "zeros", unix.SYS_FTRUNCATE, zeros, size)
	p.Do("read", "zeros", unix.SYS_READ, zeros, start, size)
	p.Do("close", "zeros", unix.SYS_CLOSE, zeros)
}

// arguments are where the kernel finds ours (proc_pid_stat(5), arg_start and arg_end).
func arguments() (start, size uintptr, err error) {
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0, 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // from field 3 on
	if len(fields) < 47 {
		return 0, 0, fmt.Errorf("/proc/self/stat: %d fields: %w", len(fields)+2, unix.EINVAL)
	}
	first, err1 := strconv.ParseUint(fields[48-3], 10, 64)
	last, err2 := strconv.ParseUint(fields[49-3], 10, 64)
	if err1 != nil || err2 != nil || first == 0 || last < first {
		return 0, 0, fmt.Errorf("/proc/self/stat: arguments from %s to %s: %w", fields[48-3], fields[49-3], unix.EINVAL)
	}
	return uintptr(first), uintptr(last - first), nil
}

// mapMemory gives p memory that its child shares, as the only: what is written there by one is seen by the other.
func (p *Program) mapMemory() (giveBack func(), err error) {
	const entries = 4096 // where they begin: behind the header
	size := entries + apartEntries*int(entrySize) + apartSize
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	before := p.header
	p.header = (*header)(unsafe.Pointer(&b[0]))
	*p.header = *before
	p.entries = unsafe.Slice((*entry)(unsafe.Pointer(&b[entries])), apartEntries)[:0]
	rest := b[entries+apartEntries*int(entrySize):]
	p.free = rest[:len(rest)&^7]
	return func() {
		*before = *p.header
		p.header, p.entries, p.chunks, p.free = before, nil, nil, nil
		_ = unix.Munmap(b)
	}, nil
}
