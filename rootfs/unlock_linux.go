package rootfs

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// unlock clears the attributes of a file or directory that forbid its deletion, and lets its owner into a directory. It
// reports whether it found a file or directory, no matter what it could do.
//
// Opening a name that a hostile program made could block (a FIFO) or have effects (a device): an O_PATH descriptor,
// which has none, is looked at first and then opened again through /proc, so that both are the same file.
func unlock(dir int, name string) bool {
	path, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(path)
	var st unix.Stat_t
	if unix.Fstat(path, &st) != nil {
		return false
	}
	self := fmt.Sprintf("/proc/thread-self/fd/%d", path)
	runtime.LockOSThread() // thread-self
	defer runtime.UnlockOSThread()
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if st.Mode&0o700 != 0o700 {
			_ = unix.Chmod(self, 0o700)
		}
	case unix.S_IFREG:
	default:
		return false // others can't have attributes
	}
	fd, err := unix.Open(self, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	clearFlags(fd)
	return true
}

// FS_IMMUTABLE_FL and FS_APPEND_FL of linux/fs.h.
const lockedFlags = 0x10 | 0x20

// clearFlags clears the attributes immutable and append-only (FS_IOC_SETFLAGS(2const)); it needs CAP_LINUX_IMMUTABLE. What
// it can't do the deletion that follows reports.
func clearFlags(fd int) {
	// The kernel reads and writes an int, whatever the number of the request says.
	var flags int32
	if ioctl(fd, unix.FS_IOC_GETFLAGS, &flags) != 0 {
		return
	}
	if flags&lockedFlags != 0 {
		flags &^= lockedFlags
		ioctl(fd, unix.FS_IOC_SETFLAGS, &flags)
	}
}

func ioctl(fd int, request uintptr, arg *int32) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(arg)))
	return errno
}
