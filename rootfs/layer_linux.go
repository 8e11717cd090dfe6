package rootfs

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// cloneLayer returns the directory at path as a mount of its own that is attached nowhere, idmapped if users is not
// nil, and private where the kernel has mount_setattr(2). Without AT_RECURSIVE: overlayfs does not look at what is mounted
// below a layer.
func cloneLayer(path string, users *os.File) (fd int, err error) {
	fd, err = unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, privileged("clone of a mount", err)
	}
	if err = isDir(fd); err == nil {
		err = detach(fd, path, users)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func isDir(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return invalidf("not a directory")
	}
	return nil
}

// detach makes the clone independent of the mount that it was made from: it is still a peer of that, so what is mounted
// on it would appear there (mount_namespaces(7)). Ids can only be mapped before it is attached (mount_setattr(2)).
func detach(tree int, path string, users *os.File) error {
	attr := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	what := fmt.Sprintf("private clone of the mount of %q", path)
	if users != nil {
		attr.Attr_set, attr.Userns_fd = unix.MOUNT_ATTR_IDMAP, uint64(users.Fd())
		what = fmt.Sprintf("idmapped mount of %q, file system %s", path, fsName(tree))
	}
	switch ok, err := setMountAttr.have(); {
	case err != nil:
		return err
	case !ok && users == nil:
		return nil
	case !ok:
		return &UnsupportedError{What: what, Remedy: "needs Linux " + setMountAttr.since + ", this is " + release()}
	}
	err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr)
	if err == nil || users == nil {
		return privileged(what, err)
	}
	return idmapError(what, err, users)
}

// idmapError finds out whether the file system or the user namespace is at fault: the errno is the same.
func idmapError(what string, err error, users *os.File) error {
	var own, st unix.Stat_t
	switch {
	case err == unix.EPERM && unix.Stat("/proc/thread-self/ns/user", &own) == nil && unix.Fstat(int(users.Fd()), &st) == nil && own.Ino == st.Ino:
		return &FieldError{"UserNS", nil, invalidf("the caller's own")}
	case err != unix.EINVAL:
		return privileged(what, err)
	}
	remedy := "has no idmapped mounts of this file system: keep the layers on another one, as ext4 or xfs"
	if tmp, tmpErr := newTmpfs(4<<10, 1); tmpErr == nil {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(users.Fd())}
		if unix.MountSetattr(tmp, "", unix.AT_EMPTY_PATH, &attr) != nil { // tmpfs takes every mapping from 6.3 on
			remedy += "; or UserNS has no id maps yet"
		}
		unix.Close(tmp)
	}
	return &UnsupportedError{What: what, Err: err, Remedy: "Linux " + release() + " " + remedy}
}

// checkUserNS tells a descriptor of something else from a file system that can't be idmapped: for the kernel both are EINVAL.
func checkUserNS(users *os.File) error {
	kind, err := unix.IoctlRetInt(int(users.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWUSER {
		return &FieldError{"UserNS", users.Name(), invalidf("not a user namespace")}
	}
	return nil
}

// privileged adds to a denial what would help; other errors, and nil, it returns as they are.
func privileged(what string, err error) error {
	if err != unix.EPERM && err != unix.EACCES {
		return err
	}
	return &UnsupportedError{What: what, Err: err, Remedy: "needs CAP_SYS_ADMIN in the user namespace of this mount namespace"}
}

// fsName is the name of the file system that fd is on, or its magic number (statfs(2)).
func fsName(fd int) string {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return "unknown"
	}
	if name, ok := fsNames[uint32(st.Type)]; ok {
		return name
	}
	return fmt.Sprintf("%#x", uint32(st.Type))
}

var fsNames = map[uint32]string{
	unix.BTRFS_SUPER_MAGIC: "btrfs", unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.TMPFS_MAGIC: "tmpfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.NFS_SUPER_MAGIC: "nfs", unix.FUSE_SUPER_MAGIC: "fuse",
	unix.V9FS_MAGIC: "9p", unix.CIFS_SUPER_MAGIC: "cifs", unix.SMB2_SUPER_MAGIC: "smb3", unix.SQUASHFS_MAGIC: "squashfs",
	unix.EROFS_SUPER_MAGIC_V1: "erofs", unix.F2FS_SUPER_MAGIC: "f2fs", unix.PROC_SUPER_MAGIC: "proc", unix.SYSFS_MAGIC: "sysfs",
	unix.ECRYPTFS_SUPER_MAGIC: "ecryptfs", unix.RAMFS_MAGIC: "ramfs",
}

// openDir opens a directory for what O_PATH descriptors can't do; name "." is the descriptor's own.
func openDir(at int, name string) (int, error) {
	return unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// asField makes an error of opening one directory a fault of its field, nil if it is none of the caller's making.
func asField(field, path string, err error) error {
	kind, _ := err.(*kindError)
	switch {
	case kind != nil:
		return &FieldError{field, path, err}
	case err == unix.ENOENT, err == unix.ELOOP, err == unix.ENAMETOOLONG:
		return &FieldError{field, path, err}
	case err == unix.ENOTDIR:
		return &FieldError{field, path, invalidf("not a directory")}
	}
	return nil
}
