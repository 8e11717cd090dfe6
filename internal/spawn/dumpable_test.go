//go:build linux

package spawn

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

func dumpableNow(t testing.TB) int {
	t.Helper()
	v, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	require.NoError(t, err)
	return v
}

// makeDumpable undoes what an os/exec with a Credential did to us: its child shares our memory, too.
func makeDumpable(t testing.TB) {
	t.Helper()
	require.NoError(t, unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0))
}

// Rule 4: the dumpable flag belongs to the memory that children share, and a change of ids clears it. (Programs that end
// right after the change: eachStep.)
func TestDumpableStays(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		testenv.Leaks(t)
		t.Cleanup(Release)
		makeDumpable(t)
		storm(t, 4)
		require.Equal(t, 1, dumpableNow(t))
		_, err := os.ReadFile("/proc/self/environ")
		require.NoError(t, err)
		require.False(t, copyTables.Load(), "the embedder's descriptors are within reach here")
	})
}

// An embedder that made itself not dumpable stays so. Its ordinary user's children can't take descriptors from it:
// they copy the table.
func TestNotDumpable(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) { inRole(t, "dumpable") })
}

func notDumpable([]string) error {
	ctx := context.Background()
	user, err := newUserNS(ctx)
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	for n := range 12 {
		if err := stormOne(user, n); err != nil && n%4 != 3 { // what opens /proc/self is not for a user then
			return fmt.Errorf("kind %d: %w", n%4, err)
		}
		if v, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); v != 0 || err != nil {
			return fmt.Errorf("after kind %d: dumpable is %d (%v)", n%4, v, err)
		}
	}
	if copyTables.Load() {
		return fmt.Errorf("the table is copied for good, by an embedder that may become dumpable again")
	}
	return nil
}
