package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// workspace is one operation's directory in tmp. Its flock is held by an open descriptor, so that it ends with the
// process however that ends, and the next Open removes what is left.
type workspace struct {
	path string
	dir  *os.File
}

// newWorkspace makes one. tmp itself is locked shared meanwhile: the sweep of another Open, which locks it exclusively,
// must not find the new directory before it is locked.
func (s *Store) newWorkspace() (*workspace, error) {
	tmp, err := os.Open(s.path("tmp"))
	if err != nil {
		return nil, err
	}
	defer tmp.Close()
	if err := flock(tmp, unix.LOCK_SH); err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp(s.path("tmp"), "")
	if err != nil {
		return nil, err
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	if err := flock(dir, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, dir.Close(), os.Remove(path))
	}
	return &workspace{path: path, dir: dir}, nil
}

func (w *workspace) close() error { return errors.Join(removeAll(w.path), w.dir.Close()) }

// sweep removes the workspaces of dead processes. The lock on tmp is held only to find them, a moment.
func (s *Store) sweep() error {
	tmp, err := os.Open(s.path("tmp"))
	if err != nil {
		return err
	}
	defer tmp.Close()
	if err := flock(tmp, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil // somebody is at it, or begins an operation: the next Open will do
		}
		return err
	}
	names, err := tmp.Readdirnames(-1)
	if err != nil {
		return err
	}
	var dead []*workspace
	for _, name := range names {
		if w := claim(filepath.Join(s.path("tmp"), name)); w != nil {
			dead = append(dead, w)
		}
	}
	tmp.Close()
	var errs []error
	for _, w := range dead {
		errs = append(errs, w.close())
	}
	return errors.Join(errs...)
}

// claim locks a workspace whose owner is dead.
func claim(path string) *workspace {
	dir, err := os.Open(path)
	if err != nil {
		return nil
	}
	if flock(dir, unix.LOCK_EX|unix.LOCK_NB) != nil {
		dir.Close()
		return nil
	}
	return &workspace{path: path, dir: dir}
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}

// removeAll is os.RemoveAll for trees that have directories which their owner may not write to.
func removeAll(path string) error {
	err := os.RemoveAll(path)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if root, rerr := os.OpenRoot(path); rerr == nil {
		openUp(root, ".")
		root.Close()
	}
	return os.RemoveAll(path)
}

// openUp gives the owner all rights to all directories from dir down. Errors show in the removal that follows.
func openUp(root *os.Root, dir string) {
	if root.Chmod(dir, 0o700) != nil {
		return
	}
	f, err := root.Open(dir)
	if err != nil {
		return
	}
	list, _ := f.ReadDir(-1)
	f.Close()
	for _, e := range list {
		if e.IsDir() {
			openUp(root, filepath.Join(dir, e.Name()))
		}
	}
}
