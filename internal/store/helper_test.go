//go:build linux

package store

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// testHost is this machine with directories of the test's own in place ("" is the temporary directory), so that tests
// neither meet the machine's sandboxes nor leave anything. It is root's if the test is.
func testHost(tb testing.TB, place string) host {
	tb.Helper()
	dir, err := os.MkdirTemp(place, "store")
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, os.RemoveAll(dir)) })
	return hostIn(dir)
}

func hostIn(dir string) host {
	h := thisHost()
	h.lib, h.run, h.users, h.temp = filepath.Join(dir, "lib"), filepath.Join(dir, "run"), filepath.Join(dir, "users"), dir
	h.shm = filepath.Join(dir, "shm")
	h.getenv = func(string) string { return "" }
	return h
}

func openTest(t *testing.T, h host, dir string) *Store {
	t.Helper()
	s, err := h.open(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// files lists everything below the directories, for leak checks.
func files(t *testing.T, dirs ...string) []string {
	t.Helper()
	var all []string
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			if os.IsNotExist(err) {
				return nil
			}
			if path != dir {
				all = append(all, path)
			}
			return err
		})
		require.NoError(t, err)
	}
	return all
}
