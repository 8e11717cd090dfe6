package world

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// ownKeyring gives the command an empty session keyring: whoever inherits the
// embedder's possesses the keys in it, and may read them (keyrings(7)).
func ownKeyring(p *spawn.Program) {
	if features.keyrings.supported() {
		p.Do(keyringOp, "session keyring", unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0)
	}
}

// keyringOp fails with EDQUOT where the owner has all the keys that he may have.
const keyringOp = "keyctl"

// starter is spawn.Start or spawn.StartHere.
type starter func(ctx context.Context, s spawn.Setup, build func(*spawn.Program)) (*spawn.Process, error)

// patient calls start again while there is no room for a session keyring:
// those of commands that ended count until the kernel's next grace period.
func (start starter) patient(ctx context.Context, s spawn.Setup, build func(*spawn.Program)) (*spawn.Process, error) {
	for wait := time.Millisecond; ; wait *= 2 {
		p, err := start(ctx, s, build)
		if !keysExhausted(err) || wait > maxKeyWait {
			return p, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// maxKeyWait is some ten times a grace period.
const maxKeyWait = 256 * time.Millisecond

func keysExhausted(err error) bool {
	var e *spawn.Error
	return errors.As(err, &e) && e.Op == keyringOp && e.Errno == unix.EDQUOT
}
