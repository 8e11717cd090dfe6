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

// Devices for tests: of the numbers of /dev/zero, one for everybody and one for root.
const (
	openDevice    = "/dev/sandbox-test/zero"
	privateDevice = "/dev/sandbox-test/private"
)

// makeDevices makes them, as root; the tests of users run while they are there.
func makeDevices(t *testing.T) {
	if os.Getuid() != 0 {
		return
	}
	require.NoError(t, os.Mkdir("/dev/sandbox-test", 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll("/dev/sandbox-test")) })
	for name, mode := range map[string]uint32{openDevice: 0o666, privateDevice: 0o600} {
		require.NoError(t, unix.Mknod(name, unix.S_IFCHR|mode, int(unix.Mkdev(1, 5))))
		require.NoError(t, os.Chmod(name, os.FileMode(mode)))
	}
}

func TestDevicesGiven(t *testing.T) {
	makeDevices(t)
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		const work = "(echo x >" + openDevice + " && head -c 3 " + openDevice + " | wc -c) 2>&1; true"
		const use = work + "; ls -l /dev/sandbox-test | grep -c ^c; touch /dev/sandbox-test/x 2>&1; true"
		for _, o := range []sandbox.Options{{}, {Rootfs: skeleton(t)}} {
			require.Contains(t, shell(t, box(t, o), work), "nonexistent", "without the option")
			o.Security.Devices = []string{openDevice}
			sb := box(t, o)
			out := shell(t, sb, use)
			require.Contains(t, out, "3\n1\n", "it is there, alone, and works")
			require.Contains(t, out, "Read-only file system")
			r, err := sb.Run(t.Context(), sandbox.Command("true"))
			require.NoError(t, err)
			require.Equal(t, []string{openDevice}, r.Applied.Devices)
		}

		o := sandbox.Options{Security: sandbox.Security{Devices: []string{privateDevice}}}
		sb := box(t, o)
		if os.Getuid() != 0 {
			err := sb.Prepare(t.Context())
			require.ErrorIs(t, err, errors.ErrUnsupported)
			require.ErrorContains(t, err, privateDevice)
			return
		}
		for _, user := range []string{"", "1000"} {
			cmd := sandbox.Command("sh", "-c", "echo x >"+privateDevice+" && head -c 3 "+privateDevice+" | wc -c")
			cmd.User = user
			require.Equal(t, "3", output(t, sb, cmd), "user %q", user)
		}
	})
}

// What can't be a device is said before anything is made.
func TestDevicesRefused(t *testing.T) {
	for path, says := range map[string]string{
		"/dev/null": "has its own", "/dev/pts/0": "has its own", "/dev/ptmx": "has its own", "dev/tty0": "clean path", "/dev/../etc/passwd": "clean path",
		"/dev/": "clean path", "/dev": "clean path", "/etc/passwd": "clean path", "/dev/absent": "no such file", "/dev/cpu": "not a character device",
		"/dev/loop0": "not a character device", "": "clean path",
	} {
		if _, err := os.Stat(path); err != nil && says == "not a character device" {
			continue // this kernel has none
		}
		sb := box(t, sandbox.Options{Security: sandbox.Security{Devices: []string{path}}})
		err := sb.Prepare(t.Context())
		require.ErrorIs(t, err, fs.ErrInvalid, path)
		require.ErrorContains(t, err, says, path)
		require.ErrorContains(t, err, "Options.Security.Devices", path)
	}
}

// HidePID hides the processes of other users, in both directions.
func TestHidePID(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		const alone = "grep -c '^proc /proc .*hidepid=' /proc/self/mounts; ls -d /proc/1"
		const seen = `setpriv --reuid=1000 --clear-groups sh -c 'ls -d /proc/1 2>/dev/null || echo hidden; exec sleep 1000' & sleep 0.3; ls -d /proc/$! 2>/dev/null || echo hidden`
		for _, hide := range []bool{false, true} {
			sb := box(t, sandbox.Options{Security: sandbox.Security{HidePID: hide}})
			r, err := sb.Run(t.Context(), sandbox.Command("true"))
			require.NoError(t, err)
			require.Equal(t, hide, r.Applied.HidePID)
			for _, withInit := range []bool{false, true} {
				count, want := "0\n/proc/1", "/proc/1\n/proc/"
				if hide {
					count, want = "1\n/proc/1", "hidden\nhidden"
				}
				cmd := sandbox.Command("sh", "-c", alone)
				if !withInit { // an init is out of reach, and so not seen either
					require.Equal(t, count, output(t, sb, cmd))
				}
				if os.Getuid() == 0 {
					cmd := sandbox.Command("sh", "-c", seen)
					cmd.Init = withInit
					require.Contains(t, output(t, sb, cmd), want)
				}
			}
		}
	})
}
