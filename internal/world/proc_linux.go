package world

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// What of /proc is hidden and what is read-only: the OCI runtimes' lists. The
// user namespace keeps most of it out of reach already; this holds where a file
// is readable by everybody or its check is weak.
var (
	maskedProc = []string{"acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list", "timer_stats"}
	lockedProc = []string{"bus", "fs", "irq", "sys", "sysrq-trigger"}
)

// present keeps the names of /proc that this kernel has.
func present(names []string) (files, dirs []string) {
	for _, n := range names {
		info, err := os.Lstat("/proc/" + n)
		switch {
		case err != nil:
		case info.IsDir():
			dirs = append(dirs, "/proc/"+n)
		default:
			files = append(files, "/proc/"+n)
		}
	}
	return files, dirs
}

type procMasks struct{ files, dirs, locked []string }

var hostProc = sync.OnceValue(func() (m procMasks) {
	m.files, m.dirs = present(maskedProc)
	files, dirs := present(lockedProc)
	m.locked = append(files, dirs...)
	return m
})

// ownProc mounts the /proc of the command's own PID namespace over the
// World's, and the masks over it.
func ownProc(m *mounter) {
	proc := m.fs("proc", noSuid|noDev|noExec)
	m.Do("move_mount", "/proc", unix.SYS_MOVE_MOUNT, proc, "", at, "/proc", unix.MOVE_MOUNT_F_EMPTY_PATH)
	masks := hostProc()
	for _, f := range masks.files {
		m.Do("mount mask", f, unix.SYS_MOUNT, "/dev/null", f, 0, unix.MS_BIND, 0)
	}
	for _, d := range masks.dirs {
		m.Do("mount mask", d, unix.SYS_MOUNT, maskDir, d, 0, unix.MS_BIND, 0)
	}
	for _, d := range masks.locked {
		m.Do("mount", d, unix.SYS_MOUNT, d, d, 0, unix.MS_BIND|unix.MS_REC, 0)
		m.Do("mount read-only", d, unix.SYS_MOUNT, 0, d, 0, unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, 0)
	}
}
