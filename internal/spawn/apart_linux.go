package spawn

import (
	"os"
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
// Who may send it signals can stop it, and with it this thread, until the context ends.

// What the memory of such a program has room for: more than execve(2) takes.
const (
	apartEntries = 4096
	apartSize    = 16 << 20
)

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
