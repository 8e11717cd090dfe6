package store

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
)

// A claim is a symlink, named after the block's number, to the lock file of its owner: made and read in one system call each,
// with its content from the first moment and with EEXIST for the second who wants it. It ends with a dead owner,
// but not before that owner's records that name the block are gone: until then processes and files may have its ids.

// lazy is how many blocks are tried before claims of dead owners are looked into.
const lazy = 64

func (s *Store) claimPath(n uint32) string {
	return filepath.Join(s.ids, strconv.FormatUint(uint64(n), 10))
}

// claim takes a block and returns its number. The search begins at random, lest programs with different /run
// directories (containers) all begin with the same ids.
func (s *Store) claim(ctx context.Context) (uint32, error) {
	avoid, err := s.avoid()
	if err != nil {
		return 0, err
	}
	first := s.host.firstID / BlockSize
	count := (s.host.finalID+1)/BlockSize - first
	start := rand.Uint32N(count)
	search := s.newSearch()
	for _, reclaim := range []bool{false, true} {
		taken, reserved := 0, 0
		for i := range count {
			n := first + (start+i)%count
			if err := context.Cause(ctx); err != nil {
				return 0, err
			}
			if avoid.meets(n*BlockSize, BlockSize) {
				reserved++
				continue
			}
			ok, err := search.take(ctx, n, reclaim)
			if ok || err != nil {
				return n, err
			}
			if taken++; !reclaim && taken == lazy {
				break
			}
		}
		if reclaim {
			return 0, exhausted(taken, reserved)
		}
	}
	panic("BUG(sandbox): unreachable")
}

// search remembers what one search for a block has found out about others.
type search struct {
	*Store
	alive map[string]bool            // by lock file
	used  map[string]map[uint32]bool // by lock file: see usedBlocks; nil: not every record could be read
}

func (s *Store) newSearch() *search {
	return &search{Store: s, alive: map[string]bool{}, used: map[string]map[uint32]bool{}}
}

// take claims block n if it is free, or with reclaim if its owner is dead.
func (s *search) take(ctx context.Context, n uint32, reclaim bool) (bool, error) {
	err := os.Symlink(s.ownerPath, s.claimPath(n))
	for range 1000 {
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		// The first one, or others just closed the last store but this.
		if err := os.MkdirAll(s.ids, 0o700); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		err = os.Symlink(s.ownerPath, s.claimPath(n))
	}
	if err == nil || !errors.Is(err, fs.ErrExist) {
		return err == nil, err
	}
	if !reclaim || !s.stale(n) {
		return false, nil
	}
	if err := s.drop(ctx, n); err != nil {
		return false, err
	}
	err = os.Symlink(s.ownerPath, s.claimPath(n))
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return false, nil // another was quicker
	}
	return err == nil, err
}

// stale says whether a claim's owner is dead and no record needs the block. Whatever can't be read is not stale.
func (s *search) stale(n uint32) bool {
	to, err := os.Readlink(s.claimPath(n))
	if err != nil {
		return false
	}
	run, owner := filepath.Dir(filepath.Dir(to)), filepath.Base(to)
	if !validOwner(owner) || filepath.Dir(run) != s.host.run || to != filepath.Join(run, "owners", owner) {
		return false // not made by us
	}
	alive, known := s.alive[to]
	if !known {
		if alive, err = ownerAlive(run, owner); err != nil {
			return false
		}
		s.alive[to] = alive
	}
	if alive {
		return false
	}
	// Once for each owner, after it was found dead: what was read for another may lack this one's last record.
	used, known := s.used[to]
	if !known {
		used = usedBlocks(run)
		s.used[to] = used
	}
	return used != nil && !used[n]
}

// usedBlocks returns the numbers of the blocks in the records of a runtime directory, nil when one can't be read.
func usedBlocks(run string) map[uint32]bool {
	records, err := readRecords(run)
	if err != nil {
		return nil
	}
	used := map[uint32]bool{}
	for _, r := range records {
		used[r.Block/BlockSize] = true
	}
	return used
}

// drop removes a stale claim. Between the look and the removal another might drop it and claim the block anew, so all
// who remove others' claims hold the directory's lock and look again under it.
func (s *search) drop(ctx context.Context, n uint32) error {
	d, err := lockDir(ctx, s.ids)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // with everything in it
	}
	if err != nil {
		return err
	}
	defer d.close()
	if !s.stale(n) {
		return nil
	}
	return unlink(s.claimPath(n))
}

// lockDir locks the directory that is at path, be it a new one, for empty ones are removed.
func lockDir(ctx context.Context, path string) (descriptor, error) {
	for {
		d, err := openDir(path)
		if err != nil {
			return -1, err
		}
		err = d.lock(ctx, exclusive)
		at := false
		if err == nil {
			at, err = d.isAt(path)
		}
		if at && err == nil {
			return d, nil
		}
		_ = d.close()
		if err != nil {
			return -1, err
		}
	}
}

// sweepBlocks drops the claims of this store's dead owners that no record needs.
func (s *Store) sweepBlocks(ctx context.Context) error {
	if s.ids == "" {
		return nil
	}
	files, err := os.ReadDir(s.ids)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail("recover", s.ids, err)
	}
	search := s.newSearch()
	var errs []error
	for _, f := range files {
		n, err := strconv.ParseUint(f.Name(), 10, 32)
		if err != nil || ctx.Err() != nil || !search.ours(uint32(n)) || !search.stale(uint32(n)) {
			continue
		}
		if err := search.drop(ctx, uint32(n)); err != nil {
			errs = append(errs, fail("recover", s.claimPath(uint32(n)), err))
		}
	}
	return errors.Join(errs...)
}

// ours says whether a claim is of an owner of this store.
func (s *search) ours(n uint32) bool {
	to, err := os.Readlink(s.claimPath(n))
	return err == nil && filepath.Dir(filepath.Dir(to)) == s.run
}
