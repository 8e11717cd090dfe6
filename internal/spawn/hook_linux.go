package spawn

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// hook lets tests of this package and of those above it stop a program before
// its n-th call: forced cancellation and crashes at each step.
var hook atomic.Pointer[Hook]

// Hook is for tests only.
type Hook struct {
	// PauseAt makes the program wait for ever before the call of this number,
	// counted from 0; never if negative.
	PauseAt int
	// Calls is called with the number of calls of each program that is built.
	Calls func(n int)
	// Reachable leaves out what keeps a child beside others out of their reach: for controls.
	Reachable bool
	// Unguarded leaves commands out of the guard: for controls.
	Unguarded bool
	// NoExitInfo makes PIDFD_GET_INFO look absent, as before 6.15.
	NoExitInfo bool
}

func reachable() bool {
	h := hook.Load()
	return h != nil && h.Reachable
}

func unguarded() bool {
	h := hook.Load()
	return h != nil && h.Unguarded
}

// SetHook installs h, nil for none.
func SetHook(h *Hook) { hook.Store(h) }

func (h *Hook) before(p *Program) {
	if len(p.entries) == h.PauseAt {
		p.append(step{"pause", ""}, [3]Label{Next, Next, Next}, unix.SYS_PPOLL, []any{0, 0, 0, 0, 8})
	}
}
