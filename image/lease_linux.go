package image

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A lease keeps a layer from Prune: its directory is open and has a shared flock(2), which ends with the process
// however that ends. A process has one for each layer that it uses.
type lease struct {
	dir   *os.File
	users int // guarded by leases.mu
}

type leases struct {
	mu sync.Mutex
	m  map[string]*lease // by directory, guarded by mu
}

// Hold keeps the layers of img where they are until release is called, or this process ends: for as long as they are
// mounted. One that Prune has removed since the image was pulled is fs.ErrNotExist; Pull it again. release may be called
// twice.
func (s *Store) Hold(ctx context.Context, img *Image) (release func(), err error) {
	var held []func()
	release = sync.OnceFunc(func() {
		for _, r := range held {
			r()
		}
	})
	for _, l := range img.Layers {
		r, ok, err := s.lease(ctx, filepath.Dir(l.Dir))
		if err == nil && !ok {
			err = missingf("layer %s: not in the store any more", l.DiffID)
		}
		if err != nil {
			release()
			return nil, &Error{Op: "hold", Object: shorten(img.Ref), Err: err}
		}
		held = append(held, r)
	}
	return release, nil
}

// lease takes one for a layer's directory; not ok when there is no such layer.
func (s *Store) lease(ctx context.Context, dir string) (release func(), ok bool, err error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		release, err = s.tryLease(dir)
		switch {
		case err == nil:
			return release, true, nil
		case errors.Is(err, fs.ErrNotExist):
			return nil, false, nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			return nil, false, err
		}
		select { // a Prune looks at it, or moves it away
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

func (s *Store) tryLease(dir string) (release func(), err error) {
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	if l := s.leases.m[dir]; l != nil {
		return s.leases.use(dir, l), nil
	}
	f, err := lockDir(dir, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	return s.leases.use(dir, &lease{dir: f}), nil
}

// use counts a user of l. The caller holds mu.
func (s *leases) use(dir string, l *lease) (release func()) {
	if s.m == nil {
		s.m = map[string]*lease{}
	}
	s.m[dir] = l
	l.users++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if l.users--; l.users > 0 {
			return
		}
		l.dir.Close()
		if s.m[dir] == l {
			delete(s.m, dir)
		}
	})
}

// adopt is a lease for a layer that is moved to dir by publish, locked already.
func (s *Store) adopt(dir string, f *os.File) (release func()) {
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	return s.leases.use(dir, &lease{dir: f})
}

// lockDir opens and locks a directory, or gives EWOULDBLOCK. One that was moved away meanwhile is fs.ErrNotExist.
func lockDir(path string, how int) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err = flock(f, how|unix.LOCK_NB); err == nil {
		err = same(f, path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// same is fs.ErrNotExist unless f is what stands at path.
func same(f *os.File, path string) error {
	held, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !os.SameFile(held, named) {
		return &fs.PathError{Op: "lock", Path: path, Err: fs.ErrNotExist}
	}
	return nil
}
