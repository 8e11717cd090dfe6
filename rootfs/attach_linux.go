package rootfs

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Attach puts a mount that Open made at the directory path of this mount namespace, where it stays after the descriptor
// is closed, until Detach. A mount can be attached once. A symbolic link at the end of path is not followed. The
// parameter path may be relative to the working directory.
func Attach(mount *os.File, path string) error {
	err := unix.MoveMount(int(mount.Fd()), "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
	runtime.KeepAlive(mount)
	if err != nil {
		return &Error{"attach", path, privileged("attaching a mount", err)}
	}
	return nil
}

// Detach takes the mount at path away from this mount namespace, with what is mounted below it. Whoever has a file of it
// open can go on using that (MNT_DETACH, umount2(2)). A symbolic link at the end of path is not followed.
func Detach(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return &Error{"detach", path, privileged("detaching a mount", err)}
	}
	return nil
}
