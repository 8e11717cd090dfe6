package sandbox

import (
	"context"
	"os"
	"sync"

	"github.com/seed-5a9fb6e0/sandbox/internal/world"
)

// A hostBase makes what sandboxes over the host's userland have in common, once
// for all of a store.
type hostBase struct {
	mu     sync.Mutex
	made   bool
	closed bool
	base   *world.Base
}

// get returns nil where this user can have none.
func (h *hostBase) get(ctx context.Context) (*world.Base, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, os.ErrClosed
	}
	if h.made {
		return h.base, nil
	}
	base, err := world.NewBase(ctx)
	if err == nil {
		h.base, h.made = base, true
	}
	return base, err
}

func (h *hostBase) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	if h.base == nil {
		return nil
	}
	base := h.base
	h.base = nil
	return base.Close()
}
