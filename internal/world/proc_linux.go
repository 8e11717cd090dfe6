package world

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// What of /proc is hidden and what is read-only, from the OCI runtimes' lists.
// The files belong to root of the host, whom the user namespace does not map:
// nobody inside can write one, or read one that others may not. (But those of
// pressure, on which everybody may set triggers: psi.rst.) So only what
// others may read must be hidden, and only /proc/sys, part of which belongs to
// the sandbox's own namespaces, made read-only.
var maskedProc = []string{"acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "pressure", "sched_debug", "scsi", "timer_list", "timer_stats"}

const lockedProc = "/proc/sys"

type procMasks struct{ files, dirs []string }

// hostProc finds those that this kernel has and lets others read.
var hostProc = sync.OnceValue(func() (m procMasks) {
	for _, n := range maskedProc {
		n = "/proc/" + n
		info, err := os.Lstat(n)
		switch {
		case err != nil || info.Mode()&0o004 == 0:
		case info.IsDir():
			m.dirs = append(m.dirs, n)
		default:
			m.files = append(m.files, n)
		}
	}
	return m
})

// ownProc mounts the /proc of the command's own PID namespace over the World's,
// and the masks over it. (One mount(2) costs half of what fsopen, fsmount and
// move_mount do.)
func (s *Spec) ownProc(m *spawn.Program) {
	options := ""
	if s.HidePID {
		options = "hidepid=2" // invisible; the word is Linux 5.8's
	}
	m.Do("mount", "/proc", unix.SYS_MOUNT, "proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options)
	if s.Nesting {
		return // the kernel lets nobody mount a /proc in which he would see more than in his own
	}
	masks := hostProc()
	for _, f := range masks.files {
		m.Do("mount mask", f, unix.SYS_MOUNT, "/dev/null", f, 0, unix.MS_BIND, 0)
	}
	for _, d := range masks.dirs {
		m.Do("mount mask", d, unix.SYS_MOUNT, maskDir, d, 0, unix.MS_BIND, 0)
	}
	m.Do("mount", lockedProc, unix.SYS_MOUNT, lockedProc, lockedProc, 0, unix.MS_BIND|unix.MS_REC, 0)
	m.Do("mount read-only", lockedProc, unix.SYS_MOUNT, 0, lockedProc, 0,
		unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, 0)
}
