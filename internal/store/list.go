package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// List returns the records of all live sandboxes of the store, of all owners, by name. Those of dead owners that
// were not recovered yet are among them (see Alive). The error joins one *Error (ErrCorrupt, ErrNewer, or
// the file system's) for each record that can't be read; the others are returned nevertheless.
func (s *Store) List() ([]Record, error) { return readRecords(s.run) }

// Lookup returns the record of one sandbox; fs.ErrNotExist when there is none.
func (s *Store) Lookup(name string) (Record, error) {
	if err := CheckName(name); err != nil {
		return Record{}, failName("look up", name, err)
	}
	r, err := readRecord(s.recordPath(name), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, failName("look up", name, fs.ErrNotExist)
	}
	if err != nil {
		return Record{}, fail("read record", s.recordPath(name), err)
	}
	return r, nil
}

// Alive says whether the handle of that id is open in some program.
func (s *Store) Alive(owner string) (bool, error) {
	if !validOwner(owner) {
		return false, fail("look up owner", owner, fs.ErrInvalid)
	}
	return ownerAlive(s.run, owner)
}

// ownerAlive asks the kernel for the owner's lock. One whose file is gone is dead: it goes last.
func ownerAlive(run, owner string) (bool, error) {
	alive := true
	err := ifDead(filepath.Join(run, "owners", owner), func() error { alive = false; return nil })
	return alive && err == nil, err
}

// ifDead calls f if the owner with that lock file is dead, or the file is gone, and holds the lock meanwhile: an owner that
// is just starting then knows that it was taken for dead.
func ifDead(path string, f func() error) error {
	d, err := openLockable(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f()
	}
	if err != nil {
		return fail("look up owner", path, err)
	}
	defer d.close()
	free, err := d.tryLock(shared) // shared: two who ask must not take each other for the owner
	if err != nil {
		return fail("look up owner", path, err)
	}
	if !free {
		return nil
	}
	return f()
}

// readRecords reads all records of a runtime directory.
func readRecords(run string) ([]Record, error) {
	dir := filepath.Join(run, "live")
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fail("list records", dir, err)
	}
	var errs []error
	records := make([]Record, 0, len(files))
	buf := make([]byte, MaxRecord+1)
	for _, f := range files {
		if hidden(f.Name()) {
			continue
		}
		path := filepath.Join(dir, f.Name())
		r, err := readRecord(path, buf)
		switch {
		case err == nil:
			records = append(records, r)
		case !errors.Is(err, fs.ErrNotExist): // else removed meanwhile
			errs = append(errs, fail("read record", path, err))
		}
	}
	return records, errors.Join(errs...)
}

// hidden names are those of records being written.
func hidden(file string) bool { return strings.HasPrefix(file, ".") }

// readRecord reads a record, with buf if it is not nil. A file that is no record at all is ErrCorrupt.
func readRecord(path string, buf []byte) (Record, error) {
	d, err := openRead(path)
	if err != nil {
		return Record{}, notRegular(err)
	}
	defer d.close()
	return d.record(path, buf)
}

func (d descriptor) record(path string, buf []byte) (Record, error) {
	if buf == nil {
		buf = make([]byte, MaxRecord+1)
	}
	b, err := d.read(buf)
	if err != nil {
		return Record{}, notRegular(err)
	}
	return decode(b, filepath.Base(path))
}

// notRegular tells what is wrong with a disk from what is said of a directory, link, FIFO or socket of that name.
func notRegular(err error) error {
	if oddFile(err) {
		return corrupt(fmt.Sprintf("not a regular file: %v", err))
	}
	return err
}
