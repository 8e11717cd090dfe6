package rootfs

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// firstID is what id 0 of the tests' user namespaces maps to.
const firstID = 700_000

// newUserNS returns a user namespace with ids 0 to 65535 mapped to those from first, -1: none. The process that made it
// is gone.
func newUserNS(t testing.TB, first int) *os.File {
	t.Helper()
	ids := []syscall.SysProcIDMap{{HostID: first, Size: 65536}}
	if first < 0 {
		ids = nil
	}
	cmd := exec.Command("/bin/cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", cmd.Process.Pid))
	require.NoError(t, err)
	require.NoError(t, in.Close())
	require.NoError(t, cmd.Wait())
	t.Cleanup(func() { ns.Close() })
	return ns
}

// newTmpfsDir returns a directory on a file system of its own kind.
func newTmpfsDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

// write makes files: "dir/" a directory, "name" a file with content, "name#" a whiteout.
func write(t testing.TB, dir string, files map[string]string) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for name, content := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		switch {
		case strings.HasSuffix(name, "/"):
			require.NoError(t, os.MkdirAll(path, 0o755))
		case strings.HasSuffix(name, "#"):
			require.NoError(t, unix.Mknod(strings.TrimSuffix(path, "#"), unix.S_IFCHR, 0))
		default:
			require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
		}
	}
	return dir
}

// open makes the mount and returns a path that leads into it though it is attached nowhere.
func open(t testing.TB, o Overlay) string {
	t.Helper()
	f, err := o.Open(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return through(f)
}

func through(f *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d/", os.Getpid(), f.Fd()) }

// tree lists what is below root: "name mode uid:gid content".
func tree(t testing.TB, root string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := os.Lstat(path)
		require.NoError(t, err)
		st := info.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("/%s %v %d:%d", strings.TrimPrefix(path, root), info.Mode(), st.Uid, st.Gid)
		if d.Type().IsRegular() {
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			line += " " + string(content)
		}
		list = append(list, line)
		return nil
	})
	require.NoError(t, err)
	return list
}

// force makes the kernel seem to lack a feature.
func force(t testing.TB, f *feature) {
	t.Helper()
	f.off.Store(true)
	t.Cleanup(func() { f.off.Store(false) })
}

// eachWay runs the test once for each way of mounting.
func eachWay(t *testing.T, f func(t *testing.T)) {
	t.Run("by descriptor", func(t *testing.T) {
		have, err := layersByDescriptor.have()
		require.NoError(t, err)
		if !have {
			t.Skip("rootfs: needs Linux 6.15")
		}
		f(t)
	})
	t.Run("private namespace", func(t *testing.T) {
		force(t, &layersByDescriptor)
		f(t)
	})
}

// inUserNS runs a script in the user namespace, with descriptor 3 the mount.
func inUserNS(t testing.TB, ns, mount *os.File, script string) string {
	t.Helper()
	cmd := exec.Command("nsenter", "--user=/proc/self/fd/4", "/bin/sh", "-ec", "cd /proc/self/fd/3/; "+script)
	cmd.ExtraFiles = []*os.File{mount, ns}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}
