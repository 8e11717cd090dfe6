//go:build linux

package world

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/tinyinit"
)

// behindInit runs a script behind an init to its end. The init of one that says that it was alone is kept for a while.
func behindInit(t *testing.T, w *World, init *os.File, alone bool, script string) (out string, status unix.WaitStatus) {
	t.Helper()
	r, in, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	p, err := w.Start(t.Context(), Command{Paths: []string{"/bin/sh"}, Args: []string{"sh", "-c", script}, Dir: "/",
		Env: []string{"PATH=/usr/bin:/bin"}, Files: []*os.File{nil, in, in}, Init: init})
	require.NoError(t, err)
	require.NoError(t, in.Close())
	p.Alone = func() bool { return alone }
	text, err := io.ReadAll(r)
	require.NoError(t, err)
	s, err := p.Wait(t.Context())
	require.NoError(t, err)
	require.NoError(t, p.Close())
	return string(text), s.Status
}

// inits are the pids of our children of that name.
func inits(t *testing.T) (pids []int) {
	out, _ := exec.Command("ps", "--ppid", strconv.Itoa(os.Getpid()), "-o", "pid=,stat=,comm=").Output()
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 3 && f[2] == "init" && f[1][0] != 'Z' {
			pid, err := strconv.Atoi(f[0])
			require.NoError(t, err)
			pids = append(pids, pid)
		}
	}
	return pids
}

func initWorld(t *testing.T) (*World, *os.File) {
	init, err := tinyinit.Open(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { init.Close() })
	ns, err := NewNamespaces(t.Context(), testMap(), false)
	require.NoError(t, err)
	w, err := Build(t.Context(), Spec{Namespaces: ns, Map: testMap(), Hostname: "box", Root: HostRoot{}})
	require.NoError(t, err)
	t.Cleanup(func() { w.Close() })
	return w, init
}

// Every command has a PID namespace in which nobody was before it but its init, made ahead or not, also behind one that
// could not be executed. What is made ahead and what was used ends when nobody comes any more, and with the World.
func TestHomes(t *testing.T) {
	w, init := initWorld(t)
	for i := range 40 {
		out, status := behindInit(t, w, init, i%2 == 0, "echo $$ $PPID; exec ls /proc")
		require.Zero(t, status, out)
		lines := strings.Fields(out)
		require.Equal(t, []string{"2", "0", "1", "2"}, lines[:4])
		require.NotRegexp(t, "^[0-9]", lines[4])
		_, err := w.Start(t.Context(), Command{Paths: []string{"/no/such"}, Args: []string{"such"}, Dir: "/", Init: init})
		require.ErrorContains(t, err, "/no/such")
	}
	require.NotEmpty(t, inits(t))
	require.Eventually(t, func() bool { return len(inits(t)) == 0 }, 10*time.Second, 10*time.Millisecond)
	behindInit(t, w, init, true, "true")
	behindInit(t, w, init, true, "true")
	require.NotEmpty(t, inits(t))
	require.NoError(t, w.Close())
	require.Empty(t, inits(t))
}

// A command whose init was killed, as by the OOM killer, gets another one.
func TestHomesKilled(t *testing.T) {
	w, init := initWorld(t)
	for range 3 {
		behindInit(t, w, init, false, "true")
	}
	for range 20 {
		for _, pid := range inits(t) {
			require.NoError(t, unix.Kill(pid, unix.SIGKILL))
			require.Eventually(t, func() bool { return !slices.Contains(inits(t), pid) }, 10*time.Second, time.Millisecond)
		}
		_, status := behindInit(t, w, init, false, "exit 3")
		require.Equal(t, unix.WaitStatus(3<<8), status)
	}
}

// Where the children of a thread are born is as before after a start on it.
func TestHomesLeaveThread(t *testing.T) {
	w, init := initWorld(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	children := func() string {
		to, err := os.Readlink(fmt.Sprintf("/proc/self/task/%d/ns/pid_for_children", unix.Gettid()))
		require.NoError(t, err)
		return to
	}
	before := children()
	for _, path := range []string{"/bin/true", "/no/such"} {
		p, err := w.StartHere(t.Context(), Command{Paths: []string{path}, Args: []string{"x"}, Dir: "/", Init: init})
		require.Equal(t, before, children())
		if err != nil {
			continue
		}
		_, err = p.WaitHere()
		require.NoError(t, err)
		require.NoError(t, p.Close())
	}
	out, err := exec.Command("readlink", "/proc/self/ns/pid").Output()
	require.NoError(t, err)
	require.Equal(t, before, strings.TrimSpace(string(out)))
}
