package sandbox_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox"
)

// skeleton is a directory to be a root file system: Debian's static busybox under some names, and accounts.
func skeleton(t testing.TB) string {
	t.Helper()
	needsUnion(t)
	root := t.TempDir()
	for _, dir := range []string{"bin", "etc", "dev", "proc", "sys", "tmp", "usr", "var", "root"} {
		require.NoError(t, os.Mkdir(filepath.Join(root, dir), 0o755))
	}
	require.NoError(t, os.Chmod(filepath.Join(root, "tmp"), 0o1777))
	busybox, err := os.ReadFile("/bin/busybox")
	require.NoError(t, err, "the package busybox-static is needed")
	writeFile(t, root, "bin/busybox", string(busybox), 0o755)
	for _, name := range []string{"sh", "cat", "ls", "id", "stat", "mkdir", "rm", "mv", "ln", "touch", "ps", "echo", "readlink", "sleep", "find", "chmod", "chown", "grep", "true", "test", "hostname"} {
		require.NoError(t, os.Symlink("busybox", filepath.Join(root, "bin", name)))
	}
	writeFile(t, root, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n", 0o644)
	writeFile(t, root, "etc/group", "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n", 0o644)
	return root
}

// needsUnion skips the test on a kernel that has no union mount for us, once the sandbox has said so: as root for want of
// idmapped layers (5.12), as an ordinary user of overlays in user namespaces (5.11). Only guests have such kernels.
func needsUnion(t testing.TB) {
	t.Helper()
	if unions() {
		return
	}
	sb := box(t, sandbox.Options{Rootfs: t.TempDir()})
	require.ErrorIs(t, sb.Prepare(t.Context()), errors.ErrUnsupported)
	t.Skip("no union mounts before Linux 5.12")
}

// unions says whether the kernel is none of those.
func unions() bool {
	return unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{}) != unix.ENOSYS
}

func writeFile(t testing.TB, root, name, content string, mode os.FileMode) {
	t.Helper()
	name = filepath.Join(root, name)
	require.NoError(t, errors.Join(os.WriteFile(name, []byte(content), 0o644), os.Chmod(name, mode)))
}

// fileState is what must stay the same of a lower layer: its times and inodes, too.
type fileState struct {
	mode         os.FileMode
	ino          uint64
	nlink        uint64
	ctime, mtime syscall.Timespec
}

func treeState(t testing.TB, root string) map[string]fileState {
	t.Helper()
	found := map[string]fileState{}
	require.NoError(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		found[strings.TrimPrefix(path, root)] = fileState{info.Mode(), st.Ino, uint64(st.Nlink), st.Ctim, st.Mtim}
		return nil
	}))
	return found
}
