package rootfs

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// newTmpfs returns a tmpfs that is attached nowhere; it ends with its last user.
func newTmpfs(size, inodes int64) (int, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, privileged("tmpfs mount", err)
	}
	defer unix.Close(fs)
	if err := setStrings(fs, "source", "tmpfs", "mode", "0755",
		"size", strconv.FormatInt(size, 10), "nr_inodes", strconv.FormatInt(inodes, 10)); err != nil {
		return -1, err
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, explain(fs, privileged("tmpfs mount", err))
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID)
}

// setStrings sets options of a file system that is being made: key, value, key, value, ….
func setStrings(fs int, pairs ...string) error {
	for i := 0; i < len(pairs); i += 2 {
		if err := unix.FsconfigSetString(fs, pairs[i], pairs[i+1]); err != nil {
			return explain(fs, &Error{"fsconfig", pairs[i], err})
		}
	}
	return nil
}
