//go:build linux

package image

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// tarDir writes the files of a directory into a tar file.
func tarDir(t testing.TB, dir, file string) {
	t.Helper()
	f, err := os.Create(file)
	require.NoError(t, err)
	defer f.Close()
	w := tar.NewWriter(f)
	require.NoError(t, w.AddFS(os.DirFS(dir)))
	require.NoError(t, w.Close())
}

// listing describes a tree, one line for each name: what tests compare.
func listing(t testing.TB, dir string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || name == "." {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		lines = append(lines, name+describe(path, st))
		return nil
	})
	require.NoError(t, err)
	return lines
}

func describe(path string, st unix.Stat_t) string {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "/"
	case unix.S_IFLNK:
		to, _ := os.Readlink(path)
		return " -> " + to
	case unix.S_IFCHR:
		return fmt.Sprintf(" c%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	case unix.S_IFIFO:
		return " |"
	}
	data, _ := os.ReadFile(path)
	return "=" + string(data)
}

// helper starts this test binary again in the function of helpers_test.go that is called name, as an ordinary user if
// uid is not 0. Its working directory and every path that it is given must be accessible to that user.
func helper(t testing.TB, uid uint32, name string, args ...string) *exec.Cmd {
	t.Helper()
	exe := testBinary(t)
	cmd := exec.CommandContext(t.Context(), exe, args...)
	cmd.Env = append(os.Environ(), "IMAGE_TEST_HELPER="+name, "HOME=/nonexistent")
	cmd.Dir = "/"
	if uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	return cmd
}

// testBinary is a copy of the running test that every user may execute: go test builds it in a private directory.
func testBinary(t testing.TB) string {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	dir := openDir(t, 0)
	file := filepath.Join(dir, "image.test")
	data, err := os.ReadFile(self)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, data, 0o755))
	require.NoError(t, os.Chmod(file, 0o755))
	return file
}

// openDir is a temporary directory that a user owns and reaches.
func openDir(t testing.TB, uid int) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "image-test-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, removeAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.Chown(dir, uid, uid))
	return dir
}

func TestMain(m *testing.M) {
	if name := os.Getenv("IMAGE_TEST_HELPER"); name != "" {
		os.Exit(runHelper(name, os.Args[1:]))
	}
	os.Exit(m.Run())
}

func runHelper(name string, args []string) int {
	var err error
	switch name {
	case "hold":
		err = helperHold(args)
	case "use":
		err = helperUse(args)
	case "prune":
		err = helperPrune(args)
	case "pull":
		err = helperPull(args)
	case "unpack":
		err = helperUnpack(args)
	default:
		err = fmt.Errorf("helper %q: unknown", name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// descriptors counts those of this process.
func descriptors(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(list)
}
