package sandbox_test

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox"
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

// A root whose changes are in memory is as any other: what was removed and made again, what is the sandbox's own in /etc.
func TestDiskRoot(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		root := skeleton(t)
		writeFile(t, root, "var/old", "old", 0o644)
		for _, disk := range []int64{0, 8 << 20} {
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
