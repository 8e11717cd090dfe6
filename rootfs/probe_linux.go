package rootfs

import (
	"crypto/rand"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// probeWrite makes a file in the mount and removes it, where the kernel can do so (6.1) one without a name.
// A mount that came up read-only answers EROFS.
func probeWrite(mount int) error {
	fd, err := unix.Openat(mount, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return unix.Close(fd)
	}
	if err != unix.EOPNOTSUPP && err != unix.EISDIR {
		return err
	}
	name := ".probe-" + rand.Text() // what a layer has under its name would be copied up
	fd, err = unix.Openat(mount, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	unix.Close(fd)
	return unix.Unlinkat(mount, name, 0)
}

// refused says more about a mount that the kernel refused with an errno that means anything.
func (s *sources) refused(err error) error {
	if s.upper == nil || s.upper.work == "" {
		return err
	}
	// Documentation/filesystems/overlayfs.rst, "Volatile mount".
	marker := filepath.Join(s.upper.work, "work", "incompat", "volatile")
	if unix.Access(marker, unix.F_OK) != nil {
		return err
	}
	return &FieldError{"Work", s.upper.work, &usedError{fmt.Sprintf(
		"was used by a mount without Sync, so Upper %q may be damaged: use a new Work if it is known to be intact", s.upper.name), err}}
}

// usedError is fs.ErrExist and keeps the kernel's answer.
type usedError struct {
	text string
	err  error
}

func (e *usedError) Error() string   { return e.text + ": " + e.err.Error() }
func (e *usedError) Unwrap() []error { return []error{unix.EEXIST, e.err} }
