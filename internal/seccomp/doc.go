// Package seccomp turns a seccomp profile in the OCI's terms into a filter of classic BPF, without cgo.
//
// A profile says per system call, by name, and by the values of its arguments what the kernel does: allow it, let it
// fail with an errno, kill. [Load] reads one's own (the "seccomp" object of the OCI runtime spec, config-linux.md, with
// the additions of Docker's files); [Default], [Strict] and [Docker] make those of this module. [Profile.Compile] makes
// the filter for a machine.
//
// The filter is a search tree over the numbers of the system calls: at its installation the kernel runs it for every
// number, to note which are allowed whatever their arguments (seccomp_cache_prepare in kernel/seccomp.c), and a chain of
// comparisons makes that alone cost more than starting a program.
//
// # Semantics
//
// As libseccomp and runc have it:
//
//   - The conditions of one rule must all hold, but for several on one argument, of which one must.
//   - Of the rules for one system call one without conditions is the only one that counts. Two of those with different
//     actions are an error, where runc lets the order decide.
//   - Of two rules that hold, that with the stricter action counts, as seccomp(2) orders them.
//   - Arguments are compared as 64 bits, those of 32-bit programs and of x32 by their lower half. A system call that takes an int ignores the
//     upper half: compare with a mask (SCMP_CMP_MASKED_EQ) to refuse a value of it.
//   - A system call of an architecture that the profile does not name ends the process with SIGSYS (libseccomp: the
//     thread). The machine's own is always named.
//   - A system call that this package has no name for fails with ENOSYS where the default is an errno: programs then do
//     without it, and often do not after EPERM.
//
// The numbers of system calls (numbers.txt) are those of golang.org/x/sys.
package seccomp
