package sandbox_test

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

//go:embed testdata/cling.c
var clingSource string

// clingRoot makes a directory with testdata/cling.c as its only program. (It is made by root, for whom a C compiler is there.)
func clingRoot(t testing.TB) string {
	return rootWith(t, map[string]string{"cling": testenv.C(t, clingSource)})
}

// The ways of testdata/cling.c that a filter allows.
var clingWays = map[string][]string{
	"":       {"prctl", "thread", "uid", "gid", "trace"},
	"strict": {"thread", "uid", "gid"},
	"docker": {"prctl", "thread", "uid", "gid", "trace"},
	"off":    {"prctl", "thread", "uid", "gid", "trace"},
}

// playCling is an embedder with a command for each way that a filter allows. Told so, it replaces itself by another program.
func playCling(dir string) error {
	how := strings.Split(os.Getenv(argEnv), ",")
	filter, mark := how[0], how[1]
	spawn.SetHook(&spawn.Hook{PauseAt: -1, Unguarded: how[2] == "unguarded"})
	st, err := sandbox.Open(filepath.Join(dir, "store"))
	if err != nil {
		return err
	}
	sb := sandbox.New(sandbox.Options{Store: st, Rootfs: filepath.Join(dir, "rootfs"), Security: sandbox.Security{Seccomp: filter}})
	var up []string
	for _, way := range clingWays[filter] {
		c := sandbox.Command("/bin/cling", way, mark)
		c.Pipes = sandbox.PipeStdout
		p, err := sb.Start(context.Background(), c)
		if err != nil {
			return err
		}
		if _, err := p.Stdout.Read(make([]byte, 3)); err != nil {
			res, waitErr := p.Wait(context.Background())
			if res != nil && res.ExitCode >= 14 {
				continue // it has one id, and can't have another
			}
			return fmt.Errorf("%s: %v, %w", way, res, errors.Join(err, waitErr))
		}
		up = append(up, way)
	}
	fmt.Println(strings.Join(up, ","))
	in := bufio.NewScanner(os.Stdin)
	in.Scan()
	return syscall.Exec("/bin/sleep", []string{"sleep", "1000"}, nil)
}

// A clinger is an embedder that plays "cling".
type clinger struct {
	*embedder
	in   *os.File
	mark string
	up   []string // the ways
}

func newClinger(t *testing.T, dir, filter, guarded string) *clinger {
	c := &clinger{mark: newMark()}
	c.embedder = newEmbedder("cling", dir, filter+","+c.mark+","+guarded)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	c.Stdin, c.in = r, w
	c.start(t)
	require.NoError(t, r.Close())
	t.Cleanup(func() { w.Close() })
	c.up = strings.Split(c.line(t), ",")
	want := clingWays[filter]
	if oneID(t) {
		want = slices.DeleteFunc(slices.Clone(want), func(way string) bool { return strings.HasSuffix(way, "id") })
	}
	require.Equal(t, want, c.up)
	return c
}

// guards lists those among a program's children.
func guards(t testing.TB, pid int) (pids []string) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	require.NoError(t, err)
	for _, list := range lists {
		text, _ := os.ReadFile(list) // none: the thread has ended
		for _, pid := range strings.Fields(string(text)) {
			if line, _ := os.ReadFile("/proc/" + pid + "/cmdline"); string(line) == "sandbox-guard\x00" {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// gone waits until none of its commands lives any more, nor one of the guards.
func (c *clinger) gone(t testing.TB, guards []string) {
	t.Helper()
	require.Eventually(t, func() bool { return len(living(t, c.mark)) == 0 }, 10*time.Second, time.Millisecond, "%v", living(t, c.mark))
	require.Eventually(t, func() bool {
		for _, pid := range guards {
			if line, err := os.ReadFile("/proc/" + pid + "/cmdline"); err == nil && len(line) > 0 { // a zombie has none
				return false
			}
		}
		return true
	}, 10*time.Second, time.Millisecond, "guards %v", guards)
}

// recoverStore has the next Open of the store remove what is left.
func recoverStore(t testing.TB, dir string) {
	st, err := sandbox.Open(filepath.Join(dir, "store"))
	require.NoError(t, err)
	require.NoError(t, st.Close())
}

// clinging runs f with a directory for embedders that play "cling", as root and as each kind of user.
func clinging(t *testing.T, f func(t *testing.T, dir string)) {
	testenv.C(t, clingSource)
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		dir := t.TempDir()
		require.NoError(t, os.Rename(clingRoot(t), filepath.Join(dir, "rootfs")))
		f(t, dir)
	})
}

// What a command that is PID 1 does to outlive the embedder's SIGKILL is in vain, under every filter.
func TestClinging(t *testing.T) {
	clinging(t, func(t *testing.T, dir string) {
		for filter := range clingWays {
			c := newClinger(t, dir, filter, "")
			guards := guards(t, c.Process.Pid)
			require.Len(t, guards, 1)
			require.Len(t, living(t, c.mark), len(c.up)+strings.Count(strings.Join(c.up, ","), "trace"), "each, and its tracer")
			c.kill()
			c.gone(t, guards)
			recoverStore(t, dir)
		}
	})
}

// The control: without the guard all of them outlive it, but for those that have only a tracer.
func TestClingingUnguarded(t *testing.T) {
	clinging(t, func(t *testing.T, dir string) {
		for filter := range clingWays {
			c := newClinger(t, dir, filter, "unguarded")
			c.kill()
			// (One that has executed itself is called "stay".)
			outlive := len(slices.DeleteFunc(slices.Clone(c.up), func(way string) bool { return way == "trace" }))
			require.Eventually(t, func() bool { return len(living(t, c.mark)) <= outlive }, 10*time.Second, time.Millisecond)
			time.Sleep(50 * time.Millisecond)
			require.Len(t, living(t, c.mark), outlive, "%v", living(t, c.mark))
			endAll(t, c.mark)
			c.gone(t, nil)
			recoverStore(t, dir)
		}
	})
}

// endAll kills those who have mark as an argument.
func endAll(t testing.TB, mark string) {
	for _, line := range living(t, mark) {
		pid, err := strconv.Atoi(strings.Split(line, "/")[2])
		require.NoError(t, err)
		_ = syscall.Kill(pid, syscall.SIGKILL) // ESRCH: it ended with another one
	}
}

// An embedder that replaces itself by execve is another program, which knows nothing of its commands: they end.
func TestEmbedderReplaced(t *testing.T) {
	clinging(t, func(t *testing.T, dir string) {
		c := newClinger(t, dir, "", "")
		guards := guards(t, c.Process.Pid)
		_, err := c.in.WriteString("exec\n")
		require.NoError(t, err)
		c.gone(t, guards)
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", c.Process.Pid))
		require.NoError(t, err)
		require.Equal(t, "sleep\n", string(name))
		c.kill()
		recoverStore(t, dir)
	})
}

// A guard that somebody killed is replaced with the next command.
func TestGuardKilled(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		mustExit(t, sb, sandbox.Command("true"))
		first := guards(t, os.Getpid())
		require.Len(t, first, 1)
		pid, err := strconv.Atoi(first[0])
		require.NoError(t, err)
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		require.Eventually(t, func() bool {
			stat, _ := os.ReadFile("/proc/" + first[0] + "/stat")
			return bytes.Contains(stat, []byte(") Z "))
		}, 10*time.Second, time.Millisecond)
		mustExit(t, sb, sandbox.Command("true"))
		second := guards(t, os.Getpid())
		require.Len(t, second, 1)
		require.NotEqual(t, first, second)
	})
}
