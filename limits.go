package sandbox

import (
	"time"

	"github.com/seed-5a9fb6e0/sandbox/cgroup"
)

// Unlimited lifts a limit that is on by default (Limits.Stack, Limits.OpenFiles).
const Unlimited = -1

// Limits bound resources. 0 is no limit, or for OpenFiles and Stack the
// default. A limit that can't be enforced for this user or on this machine is
// errors.ErrUnsupported with the remedy, never ignored.
type Limits struct {
	// Memory in bytes, page cache included, by a cgroup; without swap. A command
	// that goes over it is killed: Status MemoryLimit.
	Memory int64
	// Swap in bytes on top of Memory, by a cgroup. 0: none, so that Memory is the
	// whole. Unlimited: as much as there is. Above 0 it needs Memory.
	Swap int64
	// PIDs is how many processes and threads there may be, by a cgroup. A fork
	// over it fails with EAGAIN: a Hit, no kill.
	PIDs int64
	// CPUs is how much processor time may be used in a time, by a cgroup: 0.5 is
	// half of one processor. At least 0.01.
	CPUs float64
	// CPUSet are the processors that may be used, by a cgroup, in the kernel's list
	// format: "0-2,7". Empty: all.
	CPUSet string
	// IO bounds the rates of disks, by a cgroup.
	IO []cgroup.IOLimit
	// CPUTime is how much processor time a command may use with all its
	// descendants before it is killed: Status CPULimit. It is counted by a cgroup from
	// the exec on, sleep not included; the kill comes some milliseconds late.
	CPUTime time.Duration
	// Wall is how long a command may run before it is killed: Status WallLimit.
	Wall time.Duration
	// Disk is how many bytes the files may take that the commands of a sandbox write in its root or, over the host's
	// userland, in /tmp, /run and /home together; at least 64 KiB. What is beyond fails with ENOSPC. They are in memory then
	// (tmpfs), and count in Memory, but for more than 256 MiB over an image or Rootfs, as root: those are on the disk, in a
	// file with an ext4 of that size, of which some 2 % are its own; that takes loop devices and mke2fs(8) of e2fsprogs.
	// Applied.Root says which. As many again fit into /dev/shm; Mounts have sizes of their own. For a sandbox as a
	// whole, from its start on: not of a Cmd, nor for Update.
	Disk int64
	// Output is how many bytes a command may write to Stdout and Stderr together
	// before it is killed: Status OutputLimit. The Writers get exactly as many.
	// An *os.File is then copied to. Where there is neither a Writer nor a Cmd.Log, nothing is counted.
	// With Cmd.DropOutput it is not killed.
	Output int64
	// FileSize in bytes is how long a file may grow by writes (RLIMIT_FSIZE). A
	// write beyond it fails with EFBIG, for PID 1 ignores SIGXFSZ; a child of it, and
	// a command with Cmd.Init, dies by the signal: Status FileSizeLimit if that is the
	// command itself.
	FileSize int64
	// Stack in bytes is the size of a process's stack (RLIMIT_STACK). 0: 8 MiB.
	Stack int64
	// OpenFiles is how many descriptors a process may have (RLIMIT_NOFILE). 0:
	// 1,024, which a program may raise itself to at most 524,288.
	OpenFiles int64
}

// Untrusted returns limits for a short program that may be hostile: 256 MiB of
// memory without swap, 64 processes and threads, one processor, 10 seconds of
// processor time and 30 by the clock, 16 MiB of output, files of 64 MiB, 256
// descriptors. They need a cgroup: root, or a delegation.
func Untrusted() Limits {
	return Limits{
		Memory: 256 << 20, PIDs: 64, CPUs: 1, CPUTime: 10 * time.Second, Wall: 30 * time.Second,
		Output: 16 << 20, FileSize: 64 << 20, OpenFiles: 256,
	}
}

// merged is l with its zero fields for single commands taken from defaults.
func (l Limits) merged(defaults Limits) Limits {
	if l.Wall == 0 {
		l.Wall = defaults.Wall
	}
	if l.CPUTime == 0 {
		l.CPUTime = defaults.CPUTime
	}
	for _, f := range []struct{ to, from *int64 }{
		{&l.Output, &defaults.Output}, {&l.FileSize, &defaults.FileSize}, {&l.Stack, &defaults.Stack}, {&l.OpenFiles, &defaults.OpenFiles},
	} {
		if *f.to == 0 {
			*f.to = *f.from
		}
	}
	return l
}

// cgroup is what of l a cgroup enforces.
func (l *Limits) cgroup() cgroup.Limits {
	return cgroup.Limits{Memory: l.Memory, Swap: l.Swap, PIDs: l.PIDs, CPUs: l.CPUs, CPUSet: l.CPUSet, IO: l.IO}
}
