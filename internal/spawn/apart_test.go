//go:build linux

package spawn

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// ownPIDs is our own PID namespace: others live there, too.
func ownPIDs(t *testing.T) Setup {
	f, err := os.Open("/proc/self/ns/pid")
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return Setup{Files: 3, PIDs: f}
}

// A child that shares only its program: results, errors and descriptors come back all the same, and what it does to its memory
// is not done to ours.
func TestApart(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		copying(t, func(t *testing.T) {
			testenv.Leaks(t)
			t.Cleanup(Release)
			s := ownPIDs(t)
			ours := []byte("ours")
			var pid, dump Ref
			var program *Program
			p, err := Start(t.Context(), s, command(func(p *Program) {
				program = p
				pid = p.Do("getpid", "", unix.SYS_GETPID)
				dump = p.Do("prctl", "", unix.SYS_PRCTL, unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
				p.Do("getcwd", "", unix.SYS_GETCWD, p.Pinned(ours[:1:1]), 0) // ERANGE would stop it: 0 bytes
			}, "/bin/sh", "-c", "exit 3"))
			var e *Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, "getcwd", e.Op)
			require.Nil(t, p)
			require.Positive(t, program.Result(pid))
			require.Zero(t, program.Result(dump), "not dumpable")
			p, err = Start(t.Context(), s, command(func(p *Program) {
				p.Do("read", "", unix.SYS_READ, p.Do("open", "/dev/zero", unix.SYS_OPENAT, unix.AT_FDCWD, "/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0), p.Pinned(ours), 4)
			}, "/bin/sh", "-c", "exit 3"))
			require.NoError(t, err)
			require.Equal(t, 3, wait(t, p).ExitStatus())
			require.Equal(t, "ours", string(ours))
			now, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
			require.NoError(t, err)
			require.Equal(t, 1, now, "we are as we were")
			_, err = Start(t.Context(), s, plain("/absent"))
			var absent *ExecError
			require.ErrorAs(t, err, &absent)
		})
	})
}

// What has no room in the memory that is shared is an error before anything runs.
func TestApartTooLarge(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		testenv.Leaks(t)
		t.Cleanup(Release)
		_, err := Start(t.Context(), ownPIDs(t), plain("/bin/true", strings.Repeat("x", apartSize)))
		require.ErrorIs(t, err, unix.E2BIG)
		_, err = Start(t.Context(), ownPIDs(t), command(func(p *Program) {
			for range apartEntries {
				p.Try("getpid", "", unix.SYS_GETPID)
			}
		}, "/bin/true"))
		require.ErrorIs(t, err, unix.E2BIG)
	})
}
