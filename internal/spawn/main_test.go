//go:build linux

package spawn

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
	"github.com/seed-5a9fb6e0/sandbox/internal/tinyinit"
)

// Tests that change or kill the embedder run this binary again in one of these roles.
const roleEnv = "SPAWN_TEST_ROLE"

func roles() map[string]func(args []string) error {
	return map[string]func([]string) error{
		"dumpable": notDumpable,
		"swap":     swappedStdio,
		"limited":  limitedFiles,
		"inflight": tooManyInFlight,
		"oom":      besideHog,
		"pids":     cloneFails,
		"taken":    statusTaken,
		"spawner":  spawner,
		"stubborn": startStubborn,
	}
}

// The programs beside commands. They are open as long as this process, in the roles too.
var initFile, guardFile *os.File

func TestMain(m *testing.M) {
	var err error
	if initFile, err = tinyinit.Open(os.TempDir()); err == nil {
		guardFile, err = tinyinit.OpenGuard(os.TempDir())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if role := roles()[os.Getenv(roleEnv)]; role != nil {
		if err := role(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	testenv.Main(m, testenv.Options{Release: Release})
}

// embedder is a program that spawns: this test binary in a role.
func embedder(t testing.TB, role string, args ...string) *exec.Cmd {
	t.Helper()
	require.Contains(t, roles(), role)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// inRole runs an embedder to its end, which must be a good one.
func inRole(t testing.TB, role string, args ...string) {
	t.Helper()
	out, err := embedder(t, role, args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// processesWith lists the processes that have this string in their environment, or in that of the embedder whose
// memory they still share. One whose environment we may not read is left out, and a zombie has none.
func processesWith(env string) (pids []int) {
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(text, []byte(env)) {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(path, "/")[2]); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// inits lists the inits of this machine (Setup.Init): they have no environment to tell whose they are. Those of this process
// are gone when nobody waits for one.
func inits() (pids []int) {
	paths, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil || !bytes.HasPrefix(text, []byte("Name:\tinit\n")) || bytes.Contains(text, []byte("\nState:\tZ")) {
			continue
		}
		_, ids, _ := strings.Cut(string(text), "\nNSpid:\t")
		ids, _, _ = strings.Cut(ids, "\n")
		pid, err := strconv.Atoi(strings.Split(path, "/")[2])
		if err == nil && len(strings.Fields(ids)) > 1 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// children lists the children of this process, zombies too.
func children(t testing.TB) (pids []int) {
	t.Helper()
	paths, err := filepath.Glob("/proc/self/task/*/children")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the thread ended
		}
		for _, f := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(f)
			require.NoError(t, err)
			pids = append(pids, pid)
		}
	}
	return pids
}

// table shows our descriptors: each with its number, what it is and its flags.
func table(t testing.TB) map[string]string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	all := map[string]string{}
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil {
			continue // the one that listed them
		}
		n, err := strconv.Atoi(e.Name())
		require.NoError(t, err)
		flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0)
		if err == nil {
			all[e.Name()] = fmt.Sprintf("%s flags %d", target, flags)
		}
	}
	return all
}

// warm makes the spawning threads and runtime descriptors that a test needs, so that comparisons don't see them come.
func warm(t testing.TB) {
	t.Helper()
	p, err := Start(t.Context(), Setup{Files: 3}, plain("/bin/true"))
	require.NoError(t, err)
	require.Equal(t, unix.WaitStatus(0), wait(t, p))
	_, _, err = Run(t.Context(), func(*Program) {})
	require.NoError(t, err)
}

// eventually waits for something that the kernel or another process does soon.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so after 10 s: %s", what)
		}
	}
}

// withHook installs a hook for the test.
func withHook(t testing.TB, h Hook) {
	t.Helper()
	SetHook(&h)
	t.Cleanup(func() { SetHook(nil) })
}

// copying runs f in both ways to get at the embedder's descriptors.
func copying(t *testing.T, f func(t *testing.T)) {
	for name, copied := range map[string]bool{"fetched": false, "copied": true} {
		t.Run(name, func(t *testing.T) {
			before := copyTables.Swap(copied)
			defer copyTables.Store(before)
			f(t)
		})
	}
}
