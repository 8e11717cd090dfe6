package world

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// IDMapped returns a detached copy of the mounts at a directory in which the
// ids of files are mapped by the user namespace: what is uid 0's on the disk is
// its uid 0's (mount_setattr(2), 5.12). Where the kernel or the file system can't,
// the error is errors.ErrUnsupported.
func IDMapped(dir string, user *os.File) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return nil, fmt.Errorf("open_tree %q: %w", dir, err)
	}
	f := os.NewFile(uintptr(fd), dir)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(user.Fd())}
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr)
	if err == nil {
		return f, nil
	}
	f.Close()
	err = fmt.Errorf("mount_setattr MOUNT_ATTR_IDMAP %q: %w", dir, err)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) {
		return nil, &Unsupported{"idmapped mounts", err, "kernel 5.12 or newer and a file system that allows them (ext4, xfs, btrfs, tmpfs since 6.3; not overlayfs, NFS or FUSE before 6.12)"}
	}
	return nil, err
}
