package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
)

// The ids of blocks: the container range of systemd (UIDS-GIDS.md there: 524288 to 1879048191), which no system gives to users.
const (
	FirstID   = 524288
	LastID    = 1879048191
	BlockSize = 65536 // ids in a block, and what its first id is a multiple of
)

// Block is a range of BlockSize user and group ids that no other live sandbox of the machine has.
type Block struct {
	store *Store
	base  uint32

	once sync.Once
}

// Base returns the block's first id.
func (b *Block) Base() uint32 { return b.base }

// HaveBlocks says whether all ids of blocks are mapped in this program's user namespace (user_namespaces(7)).
var HaveBlocks = sync.OnceValue(func() bool {
	return mapsBlocks("/proc/self/uid_map") && mapsBlocks("/proc/self/gid_map")
})

// mapsBlocks says so of a map: lines of the first id inside, the first outside, and how many.
func mapsBlocks(path string) bool {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true // a kernel without user namespaces
	}
	for line := range strings.Lines(string(b)) {
		var inside, outside, count uint64
		if n, _ := fmt.Sscan(line, &inside, &outside, &count); n == 3 && inside <= FirstID && inside+count > LastID {
			return true
		}
	}
	return false
}

// Release lets the handle give the block to its next sandbox. It is for when no process and no file with those ids is
// left. Releasing twice does nothing.
func (b *Block) Release() { b.once.Do(func() { b.store.blocks.put(b.base) }) }

// blocks are those that one handle has claimed.
type blocks struct {
	mu     sync.Mutex
	free   []uint32        // claimed, in use by none of our sandboxes
	held   map[uint32]bool // in use
	closed bool

	once     sync.Once // for the two below
	avoid    idRanges
	avoidErr error
}

func (b *blocks) put(base uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.held, base)
	b.free = append(b.free, base)
}

// take returns a free block, the one that was used last; ok is false when there is none.
func (b *blocks) take() (base uint32, ok bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, false, os.ErrClosed
	}
	n := len(b.free) - 1
	if n < 0 {
		return 0, false, nil
	}
	base, b.free = b.free[n], b.free[:n]
	b.hold(base)
	return base, true, nil
}

func (b *blocks) hold(base uint32) {
	if b.held == nil {
		b.held = map[uint32]bool{}
	}
	b.held[base] = true
}

// Block returns a block that the handle has claimed and released, or claims one that no living owner on the machine has,
// no record of a dead one needs, and that meets no range in /etc/subuid and /etc/subgid and no user or group
// in /etc/passwd and /etc/group, as they were at the first call. Write its Base into the sandbox's Record.
//
// Errors: ErrExhausted; errors.ErrUnsupported for an ordinary user, who has SubIDs; os.ErrClosed; the context's; those
// of the file system.
func (s *Store) Block(ctx context.Context) (*Block, error) {
	if s.ids == "" {
		return nil, &Error{Op: "claim ids", Path: s.dir, Err: errors.ErrUnsupported, Hint: "it needs root; others have SubIDs"}
	}
	base, ok, err := s.blocks.take()
	if err == nil && !ok {
		base, err = s.claimOne(ctx)
	}
	if err != nil {
		return nil, fail("claim ids", s.ids, err)
	}
	return &Block{store: s, base: base}, nil
}

func (s *Store) claimOne(ctx context.Context) (uint32, error) {
	n, err := s.claim(ctx)
	if err != nil {
		return 0, err
	}
	s.blocks.mu.Lock()
	defer s.blocks.mu.Unlock()
	if s.blocks.closed {
		return 0, errors.Join(os.ErrClosed, unlink(s.claimPath(n)))
	}
	s.blocks.hold(n * BlockSize)
	return n * BlockSize, nil
}

// closeBlocks gives the claims back, but those in use when sandboxes are left: these are free after Recover.
func (s *Store) closeBlocks(left bool) error {
	s.blocks.mu.Lock()
	defer s.blocks.mu.Unlock()
	s.blocks.closed = true
	give := s.blocks.free
	if !left {
		for base := range s.blocks.held {
			give = append(give, base)
		}
	}
	var errs []error
	for _, base := range give {
		errs = append(errs, unlink(s.claimPath(base/BlockSize)))
	}
	s.blocks.free, s.blocks.held = nil, nil
	return errors.Join(errs...)
}

// avoid returns the ranges that blocks must not meet.
func (s *Store) avoid() (idRanges, error) {
	b := &s.blocks
	b.once.Do(func() { b.avoid, b.avoidErr = readReserved(s.host.etc) })
	return b.avoid, b.avoidErr
}

func validBlock(base uint32) bool {
	return base%BlockSize == 0 && base >= FirstID && base <= LastID-BlockSize+1
}

func exhausted(taken, reserved int) error {
	return fmt.Errorf("%w: %d are taken by sandboxes, %d overlap ids in /etc/passwd, group, subuid or subgid",
		ErrExhausted, taken, reserved)
}
