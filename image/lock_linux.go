package image

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// keyed are the mutexes of this process, one for each name that somebody holds or waits for. flock(2) alone would do
// (two opens of a file exclude each other in one process too), but waiting for it is polling.
type keyed struct {
	mu sync.Mutex
	m  map[string]*keyedLock // guarded by mu
}

type keyedLock struct {
	sem   chan struct{}
	users int // guarded by keyed.mu
}

func (k *keyed) lock(ctx context.Context, name string) error {
	k.mu.Lock()
	l := k.m[name]
	if l == nil {
		l = &keyedLock{sem: make(chan struct{}, 1)}
		if k.m == nil {
			k.m = map[string]*keyedLock{}
		}
		k.m[name] = l
	}
	l.users++
	k.mu.Unlock()
	select {
	case l.sem <- struct{}{}:
		return nil
	case <-ctx.Done():
		k.leave(name, l)
		return context.Cause(ctx)
	}
}

func (k *keyed) unlock(name string) {
	k.mu.Lock()
	l := k.m[name]
	k.mu.Unlock()
	<-l.sem
	k.leave(name, l)
}

func (k *keyed) leave(name string, l *keyedLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(k.m, name)
	}
}

// lock takes the lock of one object among all processes, and gives the function that releases it (which may be called
// twice). It waits until ctx ends.
//
// Lock order: a layer's chain id comes before its diff id, and nothing is waited for with the latter held but the network and
// the disk; the lock of a reference is taken last and alone.
func (s *Store) lock(ctx context.Context, name string) (func(), error) {
	if err := s.locks.lock(ctx, name); err != nil {
		return nil, err
	}
	f, err := lockFile(ctx, s.path("locks", name))
	if err != nil {
		s.locks.unlock(name)
		return nil, err
	}
	return sync.OnceFunc(func() {
		f.Close()
		s.locks.unlock(name)
	}), nil
}

// lockFile polls, as a blocking flock(2) can't be told to stop without a signal to its thread.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		f, err := tryLock(path)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// tryLock locks the file at path, or gives EWOULDBLOCK. Whoever holds the lock may remove the file: a lock on a file
// that has gone is worth nothing and is given up again.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	held, err := f.Stat()
	if err == nil {
		var named os.FileInfo
		if named, err = os.Stat(path); err == nil && os.SameFile(held, named) {
			return f, nil
		}
	}
	f.Close()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return nil, unix.EWOULDBLOCK
}
