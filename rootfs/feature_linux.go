package rootfs

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A feature is something that not every kernel has. What decides is the probe, never the kernel's version: vendors
// port features back, outer seccomp profiles take them away.
type feature struct {
	since string // the first mainline version that has it, for messages
	// probe reports whether it is there; an error means that it could not tell.
	probe func() (bool, error)

	known atomic.Int32 // a conclusive answer: 1 yes, 2 no
	off   atomic.Bool  // a test hook: as if it was not there
}

// have asks the kernel once.
func (f *feature) have() (bool, error) {
	if f.off.Load() {
		return false, nil
	}
	if k := f.known.Load(); k != 0 {
		return k == 1, nil
	}
	yes, err := f.probe()
	if err != nil {
		return false, err
	}
	f.known.Store(map[bool]int32{true: 1, false: 2}[yes])
	return yes, nil
}

// layersByDescriptor: `lowerdir+` came with Linux 6.8, layers as descriptors with 6.13, and 6.15 takes those of mounts
// that are attached nowhere (clone_private_mount).
var layersByDescriptor = feature{since: "6.15", probe: probeLayers}

// setMountAttr: idmapped and private mounts that are attached nowhere.
var setMountAttr = feature{since: "5.12", probe: probeSetMountAttr}

func probeSetMountAttr() (bool, error) {
	err := unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{})
	return err != unix.ENOSYS, nil
}

// probeLayers mounts two empty directories of a tmpfs.
func probeLayers() (bool, error) {
	tmp, err := newTmpfs(64<<10, 16)
	if err != nil {
		return false, err
	}
	defer unix.Close(tmp)
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false, err
	}
	defer unix.Close(fs)
	for _, name := range []string{"a", "b"} {
		if err := unix.Mkdirat(tmp, name, 0o700); err != nil {
			return false, err
		}
		dir, err := openDir(tmp, name)
		if err != nil {
			return false, err
		}
		err = unix.FsconfigSetFd(fs, "lowerdir+", dir)
		unix.Close(dir)
		if err != nil {
			return lacking(err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return lacking(err)
	}
	return true, nil
}

// lacking tells "no", which is EINVAL for an option or a layer that isn't known and, before overlayfs took descriptors at
// all (6.5), EOPNOTSUPP (legacy_fs_context_ops in fsopen.c), from "could not tell".
func lacking(err error) (bool, error) {
	if err == unix.EINVAL || err == unix.EOPNOTSUPP {
		return false, nil
	}
	return false, err
}

// release is the running kernel's, for messages.
func release() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "?"
	}
	return unix.ByteSliceToString(u.Release[:])
}
