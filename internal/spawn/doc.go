//go:build linux

// Package spawn starts children that run a table of system calls in place of
// Go code.
//
// After a clone a child of a Go program may not run Go: the runtime's threads
// are not there. The usual ways round are a helper program, a re-execution of
// oneself, or C. Here the parent writes down what the child shall do, a Program:
// for each call its number, up to six arguments (constants, addresses, or results of
// earlier calls) and where to go on. It clones a child that shares its memory
// (CLONE_VM), and a loop of some 40 instructions of assembly makes the calls
// until one of them is execve or exit_group. Results land in the table, so an
// error names the call that failed.
//
// # Contract
//
//   - The child sees the parent's memory, so what it refers to must neither move
//     nor be freed until it has exec'ed or ended: a Program's memory is its own, and
//     Run and Start return only then.
//   - The parent's thread sleeps until then (CLONE_VFORK): it lends the child its
//     stack, which the loop does not use, and the OOM killer passes over a task in vfork
//     where it would else take everybody who shares the memory. The thread is handed
//     to the runtime as blocked, so that no stop-the-world waits for it.
//   - Nested children (Fork, ForkCommand) are made in the same way and are the
//     embedder's, too (CLONE_PARENT). Should an intermediate child be killed, the
//     nested one is killed and waited for before the memory is given up.
//   - A command may have an init (StartInit), PID 1 of its PID namespace, which is the
//     embedder's child, too, and ends after the command with all that this left.
//   - A command that is started where others live (Setup.PIDs) has a copy of the memory in place of it, which is not
//     dumpable: they see the child, and reach neither the embedder nor what the copy has.
//   - Every program starts with a descriptor table of its own (close_range with
//     CLOSE_RANGE_UNSHARE, at no cost per descriptor); it fetches what it needs by
//     pidfd_getfd, and gives descriptors back over a socket. What a child opens is never in
//     the embedder's table, whenever it is killed. Where ptrace rules forbid pidfd_getfd the
//     table is copied.
//   - Children are made by threads that never end, for PR_SET_PDEATHSIG is bound to
//     the thread. It is set first, then the thread must be seen alive, by a robust futex,
//     and again after every change of ids.
//   - Signals are blocked around the clone, and handlers are reset in it
//     (CLONE_CLEAR_SIGHAND): no handler of Go's runs in a child.
//   - The end of a context kills the child by its pidfd, wherever it is.
//   - Per-memory settings would be the embedder's: of them a Program changes only the
//     dumpable flag (by a change of ids), and puts it back.
package spawn
