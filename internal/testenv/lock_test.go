//go:build linux

package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Another run is seen by /proc/locks, and waited for.
func TestLock(t *testing.T) {
	Leaks(t)
	t.Setenv("TMPDIR", t.TempDir())
	lock, err := lockShared()
	require.NoError(t, err)
	defer lock.Close()
	require.Empty(t, lockHolders(lock))

	ready := filepath.Join(t.TempDir(), "ready")
	other := exec.Command("flock", "--shared", lock.Name(), "sh", "-c", "touch "+ready+"; exec sleep 1")
	require.NoError(t, other.Start())
	require.Eventually(t, func() bool { _, err := os.Stat(ready); return err == nil }, 10*time.Second, 10*time.Millisecond)
	require.Len(t, lockHolders(lock), 1)
	require.False(t, waitAlone(lock, 100*time.Millisecond))
	require.NoError(t, other.Wait())
	require.True(t, waitAlone(lock, 10*time.Second))
}

func TestReachable(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o700))
	require.False(t, reachable(dir))
	require.True(t, reachable("/usr"))
}
