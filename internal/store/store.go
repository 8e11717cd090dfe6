package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
)

// Store is a handle of a store. Its methods may be called concurrently. It takes one descriptor, for its lock.
type Store struct {
	layout
	owner     string
	ownerPath string
	lock      descriptor
	live      atomic.Int64  // entries not removed yet
	serial    atomic.Uint64 // names of temporary files
	publish   func(tmp, path string) error
	blocks    blocks

	mu     sync.RWMutex // held for writing only by Close
	closed bool
}

// Open opens the store in dir and makes it when it isn't there. An empty dir is the default store: /var/lib/sandbox for
// root; else $XDG_DATA_HOME/sandbox or $HOME/.local/share/sandbox, the first that can be used, else
// sandbox-UID in os.TempDir(). It recovers nothing: call Recover.
//
// Errors: of the file system, with the path and what to do; ErrNewer; ErrCorrupt; a directory of another user or that
// everybody can write to; errors.ErrUnsupported on systems other than Linux.
func Open(dir string) (*Store, error) {
	if !supported {
		return nil, &Error{Op: "open store", Path: dir, Err: errors.ErrUnsupported, Hint: "it needs Linux"}
	}
	return thisHost().open(dir)
}

func (h host) open(dir string) (*Store, error) {
	l, err := h.locate(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{layout: l, publish: renameNew}
	// Whoever closes the store last removes its runtime directory, perhaps between two steps of this.
	for range 1000 {
		if err = s.begin(); err == nil {
			return s, nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errAgain) {
			break
		}
	}
	return nil, err
}

var errAgain = errors.New("the owner's file was taken for a dead one's")

// begin takes an owner id and its lock. Someone who recovers may see the file before it is locked. He then has the lock
// in our place, or has removed the file, or both: the id is given up and nothing was lost, for no record names it.
func (s *Store) begin() error {
	dir := filepath.Join(s.run, "owners")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fail("open store", dir, err)
	}
	if err := checkDir(s.run, s.host.uid); err != nil {
		return fail("open store", s.run, err)
	}
	s.owner = random(ownerLen)
	s.ownerPath = filepath.Join(dir, s.owner)
	d, err := createNew(s.ownerPath)
	if err != nil {
		return fail("open store", s.ownerPath, err)
	}
	ok, err := d.tryLock(exclusive)
	if err == nil && ok {
		ok, err = d.isAt(s.ownerPath)
	}
	if err == nil && ok {
		s.lock = d
		return nil
	}
	_ = unlink(s.ownerPath)
	_ = d.close()
	if err == nil {
		err = errAgain
	}
	return fail("lock store", s.ownerPath, err)
}

// Close gives up what is the handle's own: its blocks of ids, its lock and, if no other handle is open, the
// runtime directory. It does not remove sandboxes. Records that are left belong to a dead owner from then on, and the
// next Recover cleans them. Closing twice is no error.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	left := s.live.Load() > 0
	err := s.closeBlocks(left)
	if !left { // else the file says until Recover that the owner is dead and that its blocks are not free
		err = errors.Join(err, unlink(s.ownerPath))
		s.removeRun()
	}
	if err = errors.Join(err, s.lock.close()); err != nil {
		return fail("close store", s.dir, err)
	}
	return nil
}

// removeRun removes the runtime directories that are empty. The order matters: as long as there is an owner,
// "owners" can't be removed, and nobody touches "live". Errors mean that someone else is there.
func (s *Store) removeRun() {
	if rmdir(filepath.Join(s.run, "owners")) != nil {
		return
	}
	_ = rmdir(filepath.Join(s.run, "live"))
	if rmdir(s.run) != nil {
		return
	}
	if s.ids != "" {
		_ = rmdir(s.ids)
	}
	if base := filepath.Dir(s.run); base != s.dir && base != s.host.shmDir() {
		_ = rmdir(base)
	}
}

// Dir returns the real path of the persistent directory.
func (s *Store) Dir() string { return s.dir }

// RunDir returns the directory of the records of live sandboxes. It is gone once nobody has the store open.
func (s *Store) RunDir() string { return s.run }

// Owner returns the id of this handle, ten base32 digits, which stands in its records.
func (s *Store) Owner() string { return s.owner }

// Directories within a store, for Sub.
const (
	Blobs     = "blobs"
	Layers    = "layers"
	Images    = "images"
	Volumes   = "volumes"
	Networks  = "networks"
	Sandboxes = "sandboxes"
	Tmp       = "tmp"
)

// Sub returns the path of one of the directories above and makes it (mode 0700) when it isn't there yet.
// Another name is fs.ErrInvalid.
func (s *Store) Sub(name string) (string, error) {
	path := filepath.Join(s.dir, name)
	if !slices.Contains([]string{Blobs, Layers, Images, Volumes, Networks, Sandboxes, Tmp}, name) {
		return "", fail("make directory", path, fmt.Errorf("%w: not a directory of a store", fs.ErrInvalid))
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fail("make directory", path, err)
	}
	return path, nil
}
