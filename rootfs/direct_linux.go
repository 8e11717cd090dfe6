package rootfs

import (
	"context"

	"golang.org/x/sys/unix"
)

// overlayOptions are what every mount has, as key, value. A layer may come from anywhere, so nothing in it is followed:
// redirect_dir=nofollow also ignores redirects that are there (off would not, with redirect_always_follow).
func overlayOptions(o *Overlay) []string {
	opts := []string{"metacopy", "off", "index", "off", "redirect_dir", "nofollow"}
	if o.writable() {
		return opts
	}
	return opts[:2] // the others concern changes; index needs an upper layer
}

// mountDirect gives the kernel each layer by descriptor (Linux 6.15).
func (s *sources) mountDirect(ctx context.Context, o *Overlay) (int, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, privileged("overlay mount", err)
	}
	defer unix.Close(fs)
	if err := s.configure(ctx, fs, o); err != nil {
		return -1, err
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, explain(fs, privileged("overlay mount", err))
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, o.attributes())
	if err != nil {
		return -1, &Error{"fsmount", "", err}
	}
	return fd, nil
}

func (s *sources) configure(ctx context.Context, fs int, o *Overlay) error {
	if err := setStrings(fs, append([]string{"source", "overlay"}, overlayOptions(o)...)...); err != nil {
		return err
	}
	for i := len(s.lower) - 1; i >= 0; i-- { // the kernel wants the topmost first
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := setLayer(fs, "lowerdir+", s.lower[i]); err != nil {
			return err
		}
	}
	if s.upper == nil {
		return nil
	}
	if err := unix.FsconfigSetFd(fs, "upperdir", s.upper.dir); err != nil {
		return explain(fs, &Error{"fsconfig", "upperdir", err})
	}
	if err := unix.FsconfigSetFd(fs, "workdir", s.upper.wdir); err != nil {
		return explain(fs, &Error{"fsconfig", "workdir", err})
	}
	if o.Sync {
		return nil
	}
	if err := unix.FsconfigSetFlag(fs, "volatile"); err != nil {
		return explain(fs, &Error{"fsconfig", "volatile", err})
	}
	return nil
}

// setLayer opens the mount's root anew: 6.13 and 6.14 take no O_PATH descriptors here.
func setLayer(fs int, key string, tree int) error {
	dir, err := openDir(tree, ".")
	if err != nil {
		return &Error{"open", key, err}
	}
	defer unix.Close(dir)
	if err := unix.FsconfigSetFd(fs, key, dir); err != nil {
		return explain(fs, &Error{"fsconfig", key, err})
	}
	return nil
}

// attributes are those of the mount, MOUNT_ATTR_….
func (o *Overlay) attributes() (attr int) {
	if !o.Devices {
		attr |= unix.MOUNT_ATTR_NODEV
	}
	if !o.SetUID {
		attr |= unix.MOUNT_ATTR_NOSUID
	}
	if !o.writable() {
		attr |= unix.MOUNT_ATTR_RDONLY
	}
	return attr
}
