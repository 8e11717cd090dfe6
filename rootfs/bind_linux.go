package rootfs

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// OpenBind makes the mount of a Bind and returns a descriptor of it (O_PATH, close-on-exec), to be attached as that of
// Overlay.Open is. users is a user namespace (user_namespaces(7)) that maps ids of Source's files to those that they
// appear as, for an idmapped mount (Linux 5.12); nil: they appear as they are. What is mounted below Source is not
// there. It takes CAP_SYS_ADMIN. Errors as those of Overlay.Open; the context's when it has ended.
func (m Mount) OpenBind(ctx context.Context, users *os.File) (*os.File, error) {
	fd, err := m.openBind(ctx, users)
	if err != nil {
		return nil, &Error{"bind", m.Source, err}
	}
	return os.NewFile(uintptr(fd), m.Source), nil
}

func (m *Mount) openBind(ctx context.Context, users *os.File) (int, error) {
	if ctx.Err() != nil {
		return -1, context.Cause(ctx)
	}
	if m.Type != Bind {
		return -1, &FieldError{"Type", m.Type.String(), invalidf("not a Bind")}
	}
	if err := m.Validate(); err != nil {
		return -1, err
	}
	if users != nil {
		if err := checkUserNS(users); err != nil {
			return -1, err
		}
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, m.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, privileged("clone of a mount", err)
	}
	if err = detach(fd, m.Source, users); err == nil {
		err = m.restrict(fd)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// restrict sets what every Mount has.
func (m *Mount) restrict(tree int) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if !m.Writable {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if ok, err := setMountAttr.have(); err != nil {
		return err
	} else if !ok {
		return &UnsupportedError{What: fmt.Sprintf("bind mount of %q", m.Source), Remedy: "needs Linux " + setMountAttr.since + ", this is " + release()}
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return privileged(fmt.Sprintf("bind mount of %q", m.Source), err)
	}
	return nil
}
