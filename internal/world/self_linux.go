package world

import (
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// ownNamespaces are the requests that open a namespace of the process that a
// pidfd is about (6.11).
var ownNamespaces = map[string]int{
	"mnt": unix.PIDFD_GET_MNT_NAMESPACE, "uts": unix.PIDFD_GET_UTS_NAMESPACE, "ipc": unix.PIDFD_GET_IPC_NAMESPACE,
}

// selfHandle opens what ownNS needs, while the child sees the host's /proc: a
// World's shows no process.
func selfHandle(p *spawn.Program) spawn.Ref {
	if features.pidfdNamespace.supported() {
		return p.Do("pidfd_open", "", unix.SYS_PIDFD_OPEN, p.Do("getpid", "", unix.SYS_GETPID), 0)
	}
	return p.Do("open", "/proc/self/ns", unix.SYS_OPENAT, at, "/proc/self/ns", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// ownNS opens the namespace of a kind that the child is in.
func ownNS(p *spawn.Program, self spawn.Ref, kind string) spawn.Ref {
	if features.pidfdNamespace.supported() {
		return p.Do("ioctl PIDFD_GET_NAMESPACE", kind, unix.SYS_IOCTL, self, ownNamespaces[kind], 0)
	}
	return p.Do("open", "/proc/self/ns/"+kind, unix.SYS_OPENAT, self, kind, unix.O_RDONLY|unix.O_CLOEXEC, 0)
}
