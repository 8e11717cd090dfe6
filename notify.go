package sandbox

import (
	"context"
	"os"
	"syscall"
)

// A Notify leaves the decision on some system calls to the embedding program (seccomp_unotify(2), Linux 5.9).
type Notify struct {
	// Calls are the system calls by name, 1 to 64; each is left to Handle whatever Security.Seccomp says of it. Not among
	// them are those that a start needs: execve, exit_group, seccomp and sendmsg. A call of another architecture than the
	// machine's own (int 0x80, x32) ends the process with SIGSYS.
	Calls []string
	// Handle decides on one call. The thread that made it waits meanwhile, but for signals (which from Linux 5.19 on only
	// kill it). Handle is called by several goroutines at a time, at most 64 for each command; Wait and Run return when they
	// have. It must return soon after the end of ctx, which comes with that of the command.
	Handle func(ctx context.Context, c *Syscall) Answer
}

// A Syscall is a system call that waits for an Answer.
type Syscall struct {
	// Name is one of Notify.Calls.
	Name string
	// Args are the arguments as they are in the registers: of an int the upper half can be anything.
	Args [6]uint64
	// PID is the thread that made the call, as the embedding program sees it; 0 if it sees none.
	PID int

	listener *listener
	id       uint64
}

// An Answer is what a system call comes to. The zero Answer lets it return 0 without having done anything.
type Answer struct {
	// Value is what it returns.
	Value int64
	// Errno is what it fails with, if that is not 0.
	Errno syscall.Errno
	// File is given to the process, as a descriptor of its own with close-on-exec, which the call returns: an open or a
	// socket in its place. It is a right that is not
	// of the sandbox. It is closed here then.
	File *os.File
	// Continue lets the kernel go on with the call. What its pointers point to can be another thing by then: other threads
	// of the program write there. It is no means to decide by paths or addresses, only by Args that are values.
	Continue bool
}
