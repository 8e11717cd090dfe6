//go:build linux

package spawn

import (
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// A command that is born in its PID namespace is PID 1 there, our own child here, and has only what it was given, though
// our descriptors are not close-on-exec.
func TestBorn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("testenv: needs root")
	}
	copying(t, func(t *testing.T) {
		testenv.Leaks(t)
		t.Cleanup(Release)
		user, err := newUserNS(t.Context())
		require.NoError(t, err)
		defer user.Close()
		low, err := unix.FcntlInt(0, unix.F_DUPFD, 3)
		require.NoError(t, err)
		high, err := unix.FcntlInt(0, unix.F_DUPFD, 100)
		require.NoError(t, err)
		defer closeAll([]int{low, high})
		p, err := Start(t.Context(), Setup{Files: 3, Namespaces: unix.CLONE_NEWPID},
			worldCommand(user, "/bin/sh", "-c", `test $$ = 1 && test "$(echo $(ls /proc/self/fd))" = "0 1 2 3"`)) // 3 is the directory
		require.NoError(t, err)
		require.Contains(t, children(t), p.PID)
		require.Zero(t, wait(t, p).ExitStatus())
	})
}

// What the child has to copy is bounded: where our pidfd has a high number, the command is a nested child, and all else is
// as before.
func TestBornBeyondReach(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("testenv: needs root")
	}
	testenv.Leaks(t)
	t.Cleanup(Release)
	for _, high := range []bool{false, true} {
		Release()
		if high { // the pidfd is opened with the first program
			fds := fill(t, maxCarried)
			defer closeAll(fds)
		}
		born := false
		p, err := Start(t.Context(), Setup{Files: 3, Namespaces: unix.CLONE_NEWPID}, command(func(p *Program) {
			if born = p.Born(); !born {
				p.ForkCommand(unix.CLONE_NEWPID, NoRef)
			}
		}, "/bin/sh", "-c", "exit $$"))
		require.NoError(t, err)
		require.Equal(t, 1, wait(t, p).ExitStatus(), "its pid")
		require.Equal(t, !high, born)
	}
}

// fill opens descriptors until the next one has this number.
func fill(t *testing.T, next int) (fds []int) {
	for {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		require.NoError(t, err)
		fds = append(fds, fd)
		if fd >= next-1 {
			return fds
		}
	}
}

// A command that is born can be in a cgroup from the first instruction (CLONE_INTO_CGROUP): on a machine without cgroup v2
// controllers the v2 tree still has directories.
func TestBornInCgroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("testenv: needs root")
	}
	testenv.Leaks(t)
	t.Cleanup(Release)
	parent := unified(t)
	dir, err := os.MkdirTemp(parent, "sandbox-test-"+strconv.Itoa(os.Getpid())+"-")
	require.NoError(t, err)
	defer eventually(t, "rmdir "+dir, func() bool { return os.Remove(dir) == nil })
	f, err := os.Open(dir)
	require.NoError(t, err)
	defer f.Close()
	p, err := Start(t.Context(), Setup{Files: 3, Namespaces: unix.CLONE_NEWPID, Cgroup: f}, plain("/bin/sleep", "1000"))
	require.NoError(t, err)
	procs, err := os.ReadFile(dir + "/cgroup.procs")
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(p.PID)+"\n", string(procs))
	require.NoError(t, p.Signal(unix.SIGKILL))
	wait(t, p)
}

// unified is where cgroup v2 is mounted.
func unified(t *testing.T) string {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(dir + "/cgroup.controllers"); err == nil {
			return dir
		}
	}
	t.Fatal("cgroup v2 is not mounted")
	return ""
}
