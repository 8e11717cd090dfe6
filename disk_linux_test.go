package sandbox_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/imagetest"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// noDisk says, once the sandbox has said so, whether a tmpfs can't be the upper layer of an ordinary user here: before Linux
// 6.6, which brought fchmodat2(2), too.
func noDisk(t testing.TB, o sandbox.Options) bool {
	_, _, errno := unix.Syscall(unix.SYS_FCHMODAT2, ^uintptr(0), 0, 0)
	if os.Geteuid() == 0 || o.Rootfs == "" || o.Limits.Disk == 0 || errno != unix.ENOSYS {
		return false
	}
	require.ErrorIs(t, box(t, o).Prepare(t.Context()), errors.ErrUnsupported)
	return true
}

// Limits.Disk holds for all that a sandbox writes, of bytes and of files, whatever its root; removed files give it back.
func TestDisk(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		root := skeleton(t)
		for name, o := range map[string]sandbox.Options{"host userland": {}, "rootfs": {Rootfs: root}} {
			t.Run(name, func(t *testing.T) {
				o.Limits.Disk = 1 << 20
				if noDisk(t, o) {
					return
				}
				sb := box(t, o)
				fill := func(file string) string {
					return shell(t, sb, "(while :; do cat /bin/sh || exit; done) 2>&1 >"+file+" | head -1")
				}
				for _, file := range []string{"/tmp/f", "/run/f"} {
					require.Contains(t, fill(file), "No space left", file)
				}
				require.Equal(t, "less than 1100 KiB", shell(t, sb, `k=$(du -k /tmp/f | cut -f1); test $k -gt 500 && test $k -lt 1100 && echo less than 1100 KiB`))
				require.Equal(t, "ok", shell(t, sb, "rm /tmp/f /run/f && echo ok >/run/g && cat /run/g"))
				require.Contains(t, shell(t, sb, "i=0; while [ $i -lt 300 ]; do i=$((i+1)); touch /tmp/n$i 2>&1 || break; done; true"), "No space left")
				require.Contains(t, fill("/dev/shm/f"), "No space left", "it has as much of its own")
				r, err := sb.Run(t.Context(), sandbox.Command("true"))
				require.NoError(t, err)
				require.Contains(t, r.Applied.Root, ", changes in memory")

				l := o.Limits
				require.NoError(t, sb.Update(t.Context(), l))
				l.Disk *= 2
				require.ErrorIs(t, sb.Update(t.Context(), l), fs.ErrInvalid)
			})
		}
		for _, o := range []sandbox.Options{{Limits: sandbox.Limits{Disk: -1}}, {Limits: sandbox.Limits{Disk: 1}}} {
			require.ErrorIs(t, box(t, o).Prepare(t.Context()), fs.ErrInvalid)
		}
		_, err := box(t, sandbox.Options{}).Run(t.Context(), &sandbox.Cmd{Args: []string{"true"}, Limits: sandbox.Limits{Disk: 1 << 20}})
		require.ErrorIs(t, err, fs.ErrInvalid)
	})
}

// More than memory should take is in a file on the disk, which is gone with the sandbox, as is the loop device.
func TestDiskFile(t *testing.T) {
	testenv.Root(t)
	leaks(t)
	needsUnion(t)
	registry := imagetest.Registry(t)
	imagetest.Push(t, registry+"/busybox:1", imagetest.Busybox(t))
	dir := t.TempDir()
	st, err := sandbox.Open(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	o := sandbox.Options{Store: st, Image: registry + "/busybox:1", Limits: sandbox.Limits{Disk: 257 << 20}}
	sb := box(t, o)
	r, err := sb.Run(t.Context(), sandbox.Command("true"))
	require.NoError(t, err)
	require.Equal(t, "overlay, changes in a file", r.Applied.Root)
	files, err := filepath.Glob(filepath.Join(dir, "sandboxes", "*", "changes"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	used := func() int64 {
		var st unix.Stat_t
		require.NoError(t, unix.Stat(files[0], &st))
		return st.Blocks * 512
	}
	require.Less(t, used(), int64(8<<20), "it takes what is written")
	require.Contains(t, shell(t, sb, "dd if=/dev/zero of=/big bs=1M count=300 2>&1; true"), "No space left")
	require.Equal(t, "ok", shell(t, sb, `k=$(du -k /big | cut -f1); test $k -gt 240000 && test $k -lt 263168 && echo ok`))
	require.Equal(t, "kept", shell(t, sb, "rm /big && echo kept >/var/kept && sync && cat /var/kept"))
	require.Eventually(t, func() bool { return used() < 64<<20 }, 30*time.Second, 100*time.Millisecond, "what is removed is given back")
	_, err = sb.Commit(t.Context(), "app:1", sandbox.CommitOptions{})
	require.NoError(t, err)
	require.Equal(t, "kept", shell(t, box(t, sandbox.Options{Store: st, Image: "app:1"}), "cat /var/kept"))
	require.NotEmpty(t, loops(t, dir))
	require.NoError(t, sb.Close())
	require.NoFileExists(t, files[0])
	require.Eventually(t, func() bool { return len(loops(t, dir)) == 0 }, 10*time.Second, 10*time.Millisecond)
}

// loops are the files in dir that loop devices have.
func loops(t testing.TB, dir string) (files []string) {
	list, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	require.NoError(t, err)
	for _, name := range list {
		if b, err := os.ReadFile(name); err == nil && strings.HasPrefix(string(b), dir) {
			files = append(files, string(b))
		}
	}
	return files
}

// A root whose changes are in memory is as any other: what was removed and made again, what is the sandbox's own in /etc.
func TestDiskRoot(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		root := skeleton(t)
		writeFile(t, root, "var/old", "old", 0o644)
		for _, disk := range []int64{0, 8 << 20, 300 << 20} {
			o := sandbox.Options{Rootfs: root, Hostname: "box", Limits: sandbox.Limits{Disk: disk}}
			if noDisk(t, o) {
				continue
			}
			sb := box(t, o)
			require.Equal(t, "box", shell(t, sb, "cat /etc/hostname"))
			require.Contains(t, shell(t, sb, "cat /etc/hosts"), "127.0.1.1\tbox")
			require.Equal(t, "755 0 0", shell(t, sb, "stat -c '%a %u %g' /"))
			require.Equal(t, "new", shell(t, sb, "rm -r /var && mkdir /var && echo new >/var/new && ls /var"))
			require.Equal(t, "new", shell(t, sb, "ls /var"))
		}
	})
}
