package store

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const supported = true

// descriptor is a raw one: package os would offer each file to the poller, which costs as much as the work itself.
type descriptor int

// fileMode is 0600, and sticky: what is in $XDG_RUNTIME_DIR may be removed after six hours without
// access but for files with that bit (XDG Base Directory Specification 0.8).
const fileMode = 0o1600

type lockKind int

const (
	shared    lockKind = unix.LOCK_SH
	exclusive lockKind = unix.LOCK_EX
)

func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

func open(path string, flags int) (descriptor, error) {
	var fd int
	err := retry(func() (err error) {
		// NONBLOCK and NOFOLLOW: a FIFO or a link where a file should be must neither hold us up nor lead elsewhere.
		fd, err = unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, fileMode)
		return err
	})
	return descriptor(fd), err
}

func createNew(path string) (descriptor, error) {
	return open(path, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
}

func openRead(path string) (descriptor, error) { return open(path, unix.O_RDONLY) }

// openLockable opens for writing too: an exclusive flock on NFS needs it (flock(2)).
func openLockable(path string) (descriptor, error) { return open(path, unix.O_RDWR) }

func openDir(path string) (descriptor, error) { return open(path, unix.O_RDONLY|unix.O_DIRECTORY) }

// close is not repeated after EINTR: on Linux the descriptor is gone then (close(2)).
func (d descriptor) close() error { return unix.Close(int(d)) }

func (d descriptor) write(b []byte) error {
	for len(b) > 0 {
		err := retry(func() error {
			n, err := unix.Write(int(d), b)
			b = b[max(n, 0):]
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// read fills buf from the start of the file and returns what there is.
func (d descriptor) read(buf []byte) ([]byte, error) {
	for n := 0; ; {
		var m int
		err := retry(func() (err error) { m, err = unix.Pread(int(d), buf[n:], int64(n)); return err })
		if err != nil {
			return nil, err
		}
		if n += m; m <= 0 || n == len(buf) {
			return buf[:n], nil
		}
	}
}

// tryLock takes the lock or says false at once if another open file has it.
func (d descriptor) tryLock(k lockKind) (bool, error) {
	err := retry(func() error { return unix.Flock(int(d), int(k)|unix.LOCK_NB) })
	if err == unix.EWOULDBLOCK {
		return false, nil
	}
	return err == nil, err
}

// lock waits for the lock until ctx ends. It asks again and again: a thread in a blocking flock can't be called back.
func (d descriptor) lock(ctx context.Context, k lockKind) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		if ok, err := d.tryLock(k); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// isAt says whether path still names this very file. A lock on a file that was removed or replaced excludes nobody.
func (d descriptor) isAt(path string) (bool, error) {
	var a, b unix.Stat_t
	if err := retry(func() error { return unix.Fstat(int(d), &a) }); err != nil {
		return false, err
	}
	err := retry(func() error { return unix.Lstat(path, &b) })
	if err == unix.ENOENT {
		return false, nil
	}
	return err == nil && a.Dev == b.Dev && a.Ino == b.Ino, err
}

// unlink removes a file; one that is not there is no error.
func unlink(path string) error {
	err := retry(func() error { return unix.Unlink(path) })
	if err == unix.ENOENT {
		return nil
	}
	return err
}

func rmdir(path string) error { return retry(func() error { return unix.Rmdir(path) }) }

func replace(old, path string) error { return retry(func() error { return unix.Rename(old, path) }) }

// renameNew renames unless path exists: renameat2(2), Linux 3.15, in tmpfs since 3.17.
func renameNew(old, path string) error {
	err := retry(func() error {
		return unix.Renameat2(unix.AT_FDCWD, old, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	})
	if err == unix.EINVAL || err == unix.ENOSYS {
		return linkNew(old, path) // NFS and some FUSE file systems don't know the flag
	}
	return err
}

// linkNew does the same in two steps. Killed between them, it leaves the record and a temporary name of it.
func linkNew(old, path string) error {
	if err := retry(func() error { return unix.Link(old, path) }); err != nil {
		return err
	}
	return unlink(old)
}

// checkDir refuses a directory that someone else could change under us.
func checkDir(path string, uid int) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	return checkInfo(fi, uid)
}

func checkInfo(fi os.FileInfo, uid int) error {
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case !fi.IsDir():
		return unix.ENOTDIR
	case !ok || int(st.Uid) != uid:
		return errOwner
	case fi.Mode().Perm()&0o002 != 0:
		return errWritable
	}
	return nil
}

var (
	errOwner    = errors.New("belongs to another user")
	errWritable = errors.New("can be written by everybody")
)

// privateDir makes or takes over a directory in a place that everybody can write to. The checks are made on a
// descriptor that followed no link, and mode bits are set on it, so that nobody can swap the directory meanwhile.
func privateDir(path string, uid int) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	d, err := openDir(path)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer d.close()
	var st unix.Stat_t
	if err := unix.Fstat(int(d), &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if int(st.Uid) != uid {
		return &os.PathError{Op: "open", Path: path, Err: errOwner}
	}
	if st.Mode&0o077 == 0 {
		return nil
	}
	if err := unix.Fchmod(int(d), 0o700); err != nil {
		return &os.PathError{Op: "chmod", Path: path, Err: err}
	}
	return nil
}

// oddFile says whether err is of opening or reading a symlink (NOFOLLOW), a directory, a socket or a FIFO (NONBLOCK).
func oddFile(err error) bool {
	return err == unix.ELOOP || err == unix.EISDIR || err == unix.ENXIO || err == unix.EAGAIN || err == unix.ESPIPE
}

// onTmpfs says whether path is on a file system that lives in memory.
func onTmpfs(path string) bool {
	var st unix.Statfs_t
	err := retry(func() error { return unix.Statfs(path, &st) })
	return err == nil && (int64(st.Type) == unix.TMPFS_MAGIC || int64(st.Type) == unix.RAMFS_MAGIC)
}
