package sandbox

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/store"
)

// Volumes lists the names of the store's volumes (rootfs.Volume), sorted.
func (s *Store) Volumes(context.Context) ([]string, error) {
	dir, err := s.state.Sub(store.Volumes)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, &Error{Op: "list volumes", Path: dir, Err: err}
	}
	var names []string
	for _, e := range entries {
		if store.CheckName(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// RemoveVolume removes a volume with all that is in it. One that sandboxes have mounted is ErrInUse, one that is not there
// fs.ErrNotExist.
func (s *Store) RemoveVolume(ctx context.Context, name string) error {
	if err := s.removeVolume(ctx, name); err != nil {
		return &Error{Op: "remove volume", Path: name, Err: err}
	}
	return nil
}

func (s *Store) removeVolume(ctx context.Context, name string) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	dir, err := s.state.Sub(store.Volumes)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, name)
	f, err := lockUnused(ctx, path)
	if err != nil {
		return err
	}
	defer f.Close()
	// Out of sight at once: whoever opened it finds another directory, or none, when he has the lock.
	trash := filepath.Join(dir, removed+store.NewName())
	if err := os.Rename(path, trash); err != nil {
		return err
	}
	return removeUpper(ctx, trash)
}

// lockUnused locks a volume that nobody uses. A program that is just being started by this one, newuidmap(1) say, has
// our descriptors until its exec, also of a sandbox that was closed meanwhile.
func lockUnused(ctx context.Context, path string) (*os.File, error) {
	const patience = 300 * time.Millisecond
	for end := time.Now().Add(patience); ; {
		f, err := lockVolume(path, unix.LOCK_EX)
		switch {
		case !errors.Is(err, unix.EWOULDBLOCK):
			return f, err
		case time.Now().After(end):
			return nil, ErrInUse
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// removed begins the names of volumes that are being removed.
const removed = ".removed-"

// sweepVolumes removes what dead programs began to remove.
func (s *Store) sweepVolumes(ctx context.Context) error {
	dir, err := s.state.Sub(store.Volumes)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), removed) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if f, err := lockVolume(path, unix.LOCK_EX); err == nil { // else somebody is at it
			errs = append(errs, removeUpper(ctx, path))
			f.Close()
		}
	}
	return errors.Join(errs...)
}

// volume makes the volume if it is not there, and locks it, shared, for as long as the file is open.
func (s *Store) volume(ctx context.Context, name string) (*os.File, error) {
	dir, err := s.state.Sub(store.Volumes)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, name)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		made := os.Mkdir(path, 0o755)
		if made != nil && !errors.Is(made, fs.ErrExist) {
			return nil, made
		}
		f, err := lockVolume(path, unix.LOCK_SH)
		if err == nil && made == nil {
			if err = f.Chmod(0o755); err != nil { // whatever the umask
				f.Close()
			}
		}
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		select { // it is being removed
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// lockVolume opens and locks a directory (flock(2)), or gives EWOULDBLOCK. One that was moved away meanwhile is
// fs.ErrNotExist.
func lockVolume(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err == nil {
		err = standsAt(f, path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func standsAt(f *os.File, path string) error {
	held, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := os.Lstat(path)
	if err == nil && !os.SameFile(held, named) {
		err = &fs.PathError{Op: "lock", Path: path, Err: fs.ErrNotExist}
	}
	return err
}
