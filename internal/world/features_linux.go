package world

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A feature is a part of the kernel that not all supported versions have.
type feature struct {
	name    string
	version string // the first mainline version
	probe   func() bool
	state   atomic.Int32 // 0 not asked, 1 there, 2 not there
}

func (f *feature) supported() bool {
	switch f.state.Load() {
	case 1:
		return true
	case 2:
		return false
	}
	if f.probe() {
		f.state.Store(1)
		return true
	}
	f.state.Store(2)
	return false
}

// force makes the feature look absent; for tests of the fallbacks.
func (f *feature) force(absent bool) {
	f.state.Store(0)
	if absent {
		f.state.Store(2)
	}
}

var features = struct{ mountSetattr, lowerdirPlus *feature }{
	lowerdirPlus: &feature{
		name: "overlayfs lowerdir+", version: "6.8",
		// A parameter that is not known is EINVAL; a path that is not there is not.
		probe: func() bool {
			fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
			if err != nil {
				return true // only inside a user namespace: assume, the mount says so
			}
			defer unix.Close(fs)
			return unix.FsconfigSetString(fs, "lowerdir+", "/nonexistent") != unix.EINVAL
		},
	},
	mountSetattr: &feature{
		name: "mount_setattr", version: "5.12",
		// With a bad size it is EINVAL where the call is there.
		probe: func() bool {
			_, _, errno := unix.Syscall6(unix.SYS_MOUNT_SETATTR, ^uintptr(0), 0, 0, 0, 0, 0)
			return errno != unix.ENOSYS && errno != unix.EPERM
		},
	},
}
