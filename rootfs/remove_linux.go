package rootfs

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// maxDepth is how many directories are open at once below the one that is removed. What is deeper is first moved to the top.
const maxDepth = 64

// remover removes one tree.
type remover struct {
	ctx   context.Context
	top   int                  // the tree's root
	first error                // of the entries that could not be removed
	names [maxDepth + 2][]byte // a buffer for each level, made when it is needed
}

func removeTree(ctx context.Context, dir string) error {
	parent, err := unix.Open(filepath.Dir(dir), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	name := filepath.Base(dir)
	fd, err := enter(parent, name)
	switch {
	case err == unix.ENOENT:
		return nil
	case err == unix.ENOTDIR || err == unix.ELOOP:
		return invalidf("not a directory")
	case err != nil:
		return err
	}
	defer unix.Close(fd)
	r := &remover{ctx: ctx, top: fd}
	if err := r.empty(fd, 0); err != nil {
		return err
	}
	return r.rmdir(parent, name)
}

// rmdir removes an emptied directory. The reason why it isn't empty says more than ENOTEMPTY.
func (r *remover) rmdir(parent int, name string) error {
	err := unlink(parent, name, unix.AT_REMOVEDIR)
	switch {
	case err == nil || err == unix.ENOENT:
		return nil
	case err == unix.ENOTEMPTY && r.first != nil:
		return r.first
	}
	return err
}

// empty removes what is in the directory. Only the end of ctx stops it; other errors are noted.
func (r *remover) empty(dir, depth int) error {
	for {
		progress, err := r.pass(dir, depth)
		if err != nil || !progress {
			return err
		}
		// Entries may have been made, moved here, or passed over by getdents(2) meanwhile: look again.
		if _, err := unix.Seek(dir, 0, unix.SEEK_SET); err != nil {
			r.note("seek", ".", err)
			return nil
		}
	}
}

// pass goes through the directory once and reports whether it removed something.
func (r *remover) pass(dir, depth int) (progress bool, err error) {
	if r.names[depth] == nil {
		r.names[depth] = make([]byte, 16<<10)
	}
	var list []string
	for {
		n, err := unix.ReadDirent(dir, r.names[depth])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			r.note("read directory", ".", err)
			return false, nil
		}
		if n <= 0 {
			return progress, nil
		}
		_, _, list = unix.ParseDirent(r.names[depth][:n], -1, list[:0])
		for _, name := range list {
			if r.ctx.Err() != nil {
				return false, context.Cause(r.ctx)
			}
			done, err := r.entry(dir, name, depth)
			if err != nil {
				return false, err
			}
			progress = progress || done
		}
	}
}

// entry removes one entry. Linux answers EISDIR to the unlink(2) of a directory, so no other call has to tell, and no
// other process has the time to put something else there.
func (r *remover) entry(dir int, name string, depth int) (done bool, err error) {
	err = unlink(dir, name, 0)
	if err == unix.EISDIR {
		return r.subdirectory(dir, name, depth)
	}
	if err != nil && err != unix.ENOENT {
		r.note("unlink", name, err)
		return false, nil
	}
	return true, nil
}

func (r *remover) subdirectory(dir int, name string, depth int) (done bool, err error) {
	if err := unlink(dir, name, unix.AT_REMOVEDIR); err == nil || err == unix.ENOENT {
		return true, nil
	}
	if depth >= maxDepth {
		return r.raise(dir, name), nil
	}
	fd, err := enter(dir, name)
	if err != nil {
		r.note("open directory", name, err)
		return false, nil
	}
	defer unix.Close(fd)
	if err := r.empty(fd, depth+1); err != nil {
		return false, err
	}
	if err := r.rmdir(dir, name); err != nil {
		r.note("rmdir", name, err)
		return false, nil
	}
	return true, nil
}

// raise moves a directory to the top of the tree, under a name that nobody can foresee. (A rename moves no mount point
// and crosses no mount: EBUSY, EXDEV.)
func (r *remover) raise(dir int, name string) bool {
	to := ".removed-" + rand.Text()
	err := unix.Renameat2(dir, name, r.top, to, unix.RENAME_NOREPLACE)
	if err == unix.EPERM || err == unix.EACCES {
		unlock(dir, name)
		err = unix.Renameat2(dir, name, r.top, to, unix.RENAME_NOREPLACE)
	}
	if err != nil {
		r.note("rename", name, err)
		return false
	}
	return true
}

// note keeps the first error. name is an untrusted one.
func (r *remover) note(op, name string, err error) {
	if r.first == nil {
		r.first = &Error{op, shorten(name), err}
	}
}

// enter opens a directory for reading without leaving the mount or following a link (openat2(2), Linux 5.6). As root its
// mode does not matter; an ordinary user's own may be closed to himself.
func enter(dir int, name string) (int, error) {
	how := &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(dir, name, how)
		switch err {
		case unix.EINTR, unix.EAGAIN: // EAGAIN: a rename somewhere raced with the lookup
			continue
		case unix.EACCES:
			if unlock(dir, name) {
				return unix.Openat2(dir, name, how)
			}
		case unix.EXDEV:
			return -1, errMountPoint
		}
		return fd, err
	}
}

// errMountPoint is EBUSY, as for any other call that would remove a mount point.
var errMountPoint = fmt.Errorf("a mount point: %w", unix.EBUSY)

// unlink is unlinkat(2) that takes away what forbids it: attributes of the entry and of the directory, an ordinary
// user's own directory without permissions. (The parent of the tree stays as it is: its descriptor is an O_PATH one.)
func unlink(dir int, name string, flags int) error {
	err := unix.Unlinkat(dir, name, flags)
	if err != unix.EPERM && err != unix.EACCES {
		return err
	}
	clearFlags(dir)
	_ = unix.Fchmod(dir, 0o700) // not ours: the next answer tells
	if err = unix.Unlinkat(dir, name, flags); err != unix.EPERM && err != unix.EACCES {
		return err
	}
	unlock(dir, name)
	return unix.Unlinkat(dir, name, flags)
}
