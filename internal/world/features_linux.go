package world

import (
	"context"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
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

var features = struct{ landlock, mountSetattr, lowerdirPlus, keyrings, pidfdNamespace, tmpfsAttributes *feature }{
	tmpfsAttributes: &feature{
		name: "attributes of tmpfs files", version: "6.6",
		probe: func() bool { // a memfd is a file of a tmpfs
			fd, err := unix.MemfdCreate("sandbox-probe", unix.MFD_CLOEXEC)
			if err != nil {
				return false
			}
			defer unix.Close(fd)
			return unix.Fsetxattr(fd, "user.sandbox", []byte("y"), 0) == nil
		},
	},
	landlock: &feature{
		name: "Landlock ABI 2", version: "5.19",
		probe: func() bool { return landlockABI() >= 2 },
	},
	pidfdNamespace: &feature{
		name: "PIDFD_GET_MNT_NAMESPACE", version: "6.11",
		probe: func() bool {
			pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
			if err != nil {
				return false
			}
			defer unix.Close(pidfd)
			fd, err := unix.IoctlRetInt(pidfd, unix.PIDFD_GET_MNT_NAMESPACE)
			if err != nil {
				return false
			}
			unix.Close(fd)
			return true
		},
	},
	keyrings: &feature{
		name: "keyrings", version: "2.6.10",
		// ENOSYS: a kernel without. EPERM: an outer seccomp profile, which lies over
		// commands, too, and keeps them from all keys.
		// (Asking for the session keyring would give this thread one.)
		probe: func() bool {
			_, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_THREAD_KEYRING, false)
			return err != unix.ENOSYS && err != unix.EPERM
		},
	},
	lowerdirPlus: &feature{
		name: "overlayfs lowerdir+", version: "6.8",
		// A parameter that is not known is EINVAL, and a path that is not there
		// ENOENT; before 6.5 every parameter is taken, and looked at when the
		// mount is made. Asked in a user namespace, where every user may.
		probe: func() bool {
			answer := spawn.NoRef
			_, p, err := spawn.Run(context.Background(), func(p *spawn.Program) {
				n := p.Fork(unix.CLONE_NEWUSER | unix.CLONE_NEWNS)
				fs := p.Do("fsopen", "overlay", unix.SYS_FSOPEN, "overlay", unix.FSOPEN_CLOEXEC)
				answer = p.Try("fsconfig", "lowerdir+", unix.SYS_FSCONFIG, fs, unix.FSCONFIG_SET_STRING, "lowerdir+", "/nonexistent", 0)
				p.Join(n)
			})
			return err == nil && p.Result(answer) == -int(unix.ENOENT)
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
