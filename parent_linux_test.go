package sandbox_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// groupsBelow are the cgroups of sandboxes in a parent, in all hierarchies.
func groupsBelow(t testing.TB, parent string) (dirs []string) {
	for _, pattern := range []string{"/sys/fs/cgroup/" + parent + "/*.*", "/sys/fs/cgroup/*/" + parent + "/*.*"} {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, dir := range found {
			if info, err := os.Stat(dir); err == nil && info.IsDir() {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}

func TestCgroupParent(t *testing.T) {
	testenv.Root(t)
	leaks(t)
	parent := fmt.Sprintf("sandbox-parent-%d/inner", os.Getpid())
	st, err := sandbox.Open(t.TempDir(), sandbox.CgroupParent(parent))
	require.NoError(t, err)
	sb := sandbox.New(sandbox.Options{Store: st, Limits: sandbox.Limits{PIDs: 10}})
	p, err := sb.Start(t.Context(), sandbox.Command("sleep", "1000"))
	require.NoError(t, err)
	require.NotEmpty(t, groupsBelow(t, parent))
	require.NoError(t, p.Kill())
	_, err = p.Wait(t.Context())
	require.NoError(t, err)
	require.NoError(t, sb.Close())
	require.Empty(t, groupsBelow(t, parent))
	require.NoError(t, st.Close())

	for _, bad := range []string{"/absolute", "a/../b", "a//b"} {
		_, err := sandbox.Open(t.TempDir(), sandbox.CgroupParent(bad))
		require.ErrorIs(t, err, fs.ErrInvalid, bad)
	}
}

// playParent is an embedder with a command in a cgroup below a parent of its choice.
func playParent(dir string) error {
	st, err := sandbox.Open(filepath.Join(dir, "store"), sandbox.CgroupParent(os.Getenv(argEnv)))
	if err != nil {
		return err
	}
	sb := sandbox.New(sandbox.Options{Store: st, Limits: sandbox.Limits{PIDs: 10}})
	if _, err := sb.Start(context.Background(), sandbox.Command("sleep", "1000")); err != nil {
		return err
	}
	fmt.Println("ready")
	select {}
}

// Who recovers finds the cgroups of the dead one's parent, though his own is another.
func TestCgroupParentRecovered(t *testing.T) {
	testenv.Root(t)
	leaks(t)
	dir, parent := t.TempDir(), fmt.Sprintf("sandbox-parent-%d", os.Getpid())
	t.Cleanup(func() { // which the dead one made
		for _, pattern := range []string{"/sys/fs/cgroup/" + parent, "/sys/fs/cgroup/*/" + parent} {
			found, _ := filepath.Glob(pattern)
			for _, d := range found {
				require.NoError(t, os.Remove(d))
			}
		}
	})
	e := newEmbedder("parent", dir, parent)
	e.start(t)
	require.Equal(t, "ready", e.line(t))
	e.kill()
	require.NotEmpty(t, groupsBelow(t, parent), "the control: nothing is left to clean up")
	require.Eventually(t, func() bool {
		st, err := sandbox.Open(filepath.Join(dir, "store"))
		require.NoError(t, err)
		require.NoError(t, st.Close())
		return len(groupsBelow(t, parent)) == 0
	}, 5*time.Second, 10*time.Millisecond)
}
