package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Cleaner removes everything that a dead owner's record speaks of. It may find all, some or nothing of it there,
// and may be called again for the same record. Nil: the record goes too. ErrKeep: it stays, and that is
// no error. Another error: it stays for the next Recover, which reports that error.
type Cleaner func(context.Context, Record) error

// Recover cleans up after the owners that are dead: for each record calls clean and removes it, then removes blocks of
// ids, unfinished records and lock files. It is idempotent, and safe in several programs at once: each
// record is cleaned by one of them while the others wait for that until ctx ends.
//
// The error joins one *Error for each record that was left (the cleaner's error, ErrCorrupt, ErrNewer, or the file
// system's); these don't stop the others. The end of ctx does.
func (s *Store) Recover(ctx context.Context, clean Cleaner) error {
	r := recovery{Store: s, clean: clean, alive: map[string]bool{}, pinned: map[string]bool{}}
	steps := []func(context.Context) error{r.records, s.sweepBlocks, r.owners}
	var errs []error
	for _, step := range steps {
		if ctx.Err() != nil {
			return errors.Join(append(errs, fail("recover", s.run, context.Cause(ctx)))...)
		}
		errs = append(errs, step(ctx))
	}
	return errors.Join(errs...)
}

// RecoverName is Recover for one record. One that isn't there is no error, one with a living owner is fs.ErrExist.
func (s *Store) RecoverName(ctx context.Context, name string, clean Cleaner) error {
	if err := CheckName(name); err != nil {
		return failName("recover", name, err)
	}
	r := recovery{Store: s, clean: clean, alive: map[string]bool{}, pinned: map[string]bool{}}
	return r.record(ctx, name, fmt.Errorf("%w: its owner lives", fs.ErrExist))
}

// recovery is one run of Recover.
type recovery struct {
	*Store
	clean  Cleaner
	alive  map[string]bool // what was found about an owner: thousands of records may be of one
	pinned map[string]bool // dead owners with a record that stays
}

func (r *recovery) lives(owner string) (bool, error) {
	if alive, known := r.alive[owner]; known {
		return alive, nil
	}
	alive, err := ownerAlive(r.run, owner)
	if err == nil {
		r.alive[owner] = alive
	}
	return alive, err
}

// records cleans all records, and removes unfinished ones: nothing was made for those.
func (r *recovery) records(ctx context.Context) error {
	files, err := os.ReadDir(r.recordPath(""))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail("recover", r.recordPath(""), err)
	}
	var errs []error
	for _, f := range files {
		if ctx.Err() != nil {
			break // Recover says why
		}
		if hidden(f.Name()) {
			errs = append(errs, r.unfinished(f.Name()))
		} else {
			errs = append(errs, r.record(ctx, f.Name(), nil))
		}
	}
	return errors.Join(errs...)
}

func (r *recovery) unfinished(file string) error {
	path := r.recordPath(file)
	owner, serial, ok := strings.Cut(file[1:], ".")
	if !ok || serial == "" || !validOwner(owner) {
		return fail("recover", path, corrupt("unknown name"))
	}
	alive, err := r.lives(owner)
	if err != nil || alive {
		return err
	}
	if err := unlink(path); err != nil {
		return fail("recover", path, err)
	}
	return nil
}

// record cleans one record if its owner is dead, else returns ifAlive.
func (r *recovery) record(ctx context.Context, name string, ifAlive error) error {
	path := r.recordPath(name)
	for {
		again, err := r.try(ctx, path, ifAlive)
		if err != nil {
			return failName("recover", name, err)
		}
		if !again {
			return nil
		}
	}
}

// try does it for the file that is at path now; again says that another one took its place.
func (r *recovery) try(ctx context.Context, path string, ifAlive error) (again bool, err error) {
	d, err := openLockable(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fail("recover", path, notRegular(err))
	}
	defer d.close()
	rec, err := d.record(path, nil)
	if err != nil {
		return false, fail("recover", path, err)
	}
	alive, err := r.lives(rec.Owner)
	if err != nil {
		return false, err
	}
	if alive {
		return false, ifAlive
	}
	// The owner is dead, so only those who have this lock may change or remove the record.
	if err := d.lock(ctx, exclusive); err != nil {
		r.pinned[rec.Owner] = true
		return false, err
	}
	if at, err := d.isAt(path); err != nil || !at {
		return err == nil, err // cleaned by another while we waited
	}
	return false, r.cleanLocked(ctx, path, rec)
}

func (r *recovery) cleanLocked(ctx context.Context, path string, rec Record) error {
	err := r.clean(ctx, rec)
	if err == nil {
		err = unlink(path)
	}
	if err != nil {
		r.pinned[rec.Owner] = true
	}
	if errors.Is(err, ErrKeep) {
		return nil
	}
	return err
}

// owners removes the lock files of dead owners that no record names any more.
func (r *recovery) owners(context.Context) error {
	dir := filepath.Join(r.run, "owners")
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail("recover", dir, err)
	}
	var errs []error
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		if !validOwner(f.Name()) {
			errs = append(errs, fail("recover", path, corrupt("unknown name")))
			continue
		}
		if r.pinned[f.Name()] {
			continue
		}
		// Under its lock: let go before, it could be the lock of an owner that started between.
		if err := ifDead(path, func() error { return unlink(path) }); err != nil {
			errs = append(errs, fail("recover", path, err))
		}
	}
	return errors.Join(errs...)
}
