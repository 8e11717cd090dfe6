package store

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// Entry is the record of a live sandbox of this handle. Its methods may be called concurrently.
type Entry struct {
	store *Store

	mu      sync.Mutex
	record  Record
	removed bool
}

// Create writes the record of a new sandbox, before anything of it is made in the kernel or on disk. Version and Owner are
// set, an empty Name is made up, a zero Created is now.
//
// Errors: fs.ErrExist when a sandbox of that name is live in the store; ErrDead, which is fs.ErrExist too, when its
// program died (RecoverName, then try again); fs.ErrInvalid for a bad name, an overlong record or text that is not
// UTF-8; os.ErrClosed; those of the file system, after which nothing is left.
func (s *Store) Create(r Record) (*Entry, error) {
	r = r.clone()
	r.Version, r.Owner = Version, s.owner
	if r.Name == "" {
		r.Name = NewName()
	}
	if r.Created.IsZero() {
		r.Created = time.Now().UTC().Round(0)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	err := s.write(&r, s.publish)
	if errors.Is(err, fs.ErrExist) {
		err = s.taken(r.Name)
	}
	if err != nil {
		return nil, failName("create", r.Name, err)
	}
	s.live.Add(1)
	return &Entry{store: s, record: r}, nil
}

// failName names the sandbox before whatever the error names.
func failName(op, name string, err error) error {
	f := &Error{Op: op + " sandbox", Path: name, Err: err}
	if errors.Is(err, ErrDead) {
		f.Hint = "recover the store"
	}
	if e := (*Error)(nil); !errors.As(err, &e) {
		f.Hint = cmp.Or(f.Hint, hint(err))
	}
	return f
}

// taken says whose a name is. If that can't be told, it is someone's.
func (s *Store) taken(name string) error {
	r, err := readRecord(s.recordPath(name), nil)
	if err == nil {
		if alive, err := ownerAlive(s.run, r.Owner); err == nil && !alive {
			return ErrDead
		}
	}
	return fmt.Errorf("%w: the name is in use", fs.ErrExist)
}

// write puts a record in its place as a whole. Until publish its file is hidden, and has the owner's name so that Recover
// can tell whose it is. The caller holds s.mu for reading.
func (s *Store) write(r *Record, publish func(tmp, path string) error) error {
	if s.closed {
		return os.ErrClosed
	}
	b, err := r.encode()
	if err != nil {
		return err
	}
	tmp := s.recordPath("." + s.owner + "." + strconv.FormatUint(s.serial.Add(1), 10))
	d, err := createNew(tmp)
	if errors.Is(err, fs.ErrNotExist) { // the first one, or see removeRun
		_ = os.Mkdir(s.recordPath(""), 0o700)
		d, err = createNew(tmp)
	}
	if err != nil {
		return fail("write record", tmp, err)
	}
	err = errors.Join(d.write(b), d.close())
	if err == nil {
		err = publish(tmp, s.recordPath(r.Name))
	}
	if err == nil {
		return nil
	}
	_ = unlink(tmp)
	return fail("write record", s.recordPath(r.Name), err)
}

func (s *Store) recordPath(name string) string { return filepath.Join(s.run, "live", name) }

// Record returns the record as it was last written.
func (e *Entry) Record() Record {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.record.clone()
}

// Update replaces the record as a whole; Version, Name, Owner and Created stay as they are. Readers see the old one or the
// new one. On error the old one stays. Errors: as Create's; os.ErrClosed after Remove or the store's Close.
func (e *Entry) Update(r Record) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	r = r.clone()
	r.Version, r.Name, r.Owner, r.Created = e.record.Version, e.record.Name, e.record.Owner, e.record.Created
	if e.removed {
		return failName("update", r.Name, os.ErrClosed)
	}
	e.store.mu.RLock()
	defer e.store.mu.RUnlock()
	if err := e.store.write(&r, replace); err != nil {
		return failName("update", r.Name, err)
	}
	e.record = r
	return nil
}

// Remove removes the record, after everything that it speaks of is gone. Removing twice is no error; after the store's
// Close it is os.ErrClosed, for then another program may be recovering the sandbox.
func (e *Entry) Remove() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.removed {
		return nil
	}
	e.store.mu.RLock()
	defer e.store.mu.RUnlock()
	if e.store.closed {
		return failName("remove", e.record.Name, os.ErrClosed)
	}
	path := e.store.recordPath(e.record.Name)
	if err := unlink(path); err != nil {
		return fail("remove record", path, err)
	}
	e.removed = true
	e.store.live.Add(-1)
	return nil
}
