//go:build linux

package spawn

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// markEnv marks the embedders that are killed, and with their environment their commands.
const markEnv = "SPAWN_TEST_MARK"

// spawner starts commands that sleep, as fast as it can, until it is killed.
func spawner(args []string) error {
	user, err := newUserNS(context.Background())
	if err != nil {
		return err
	}
	for range 8 { // threads that the kernel has to end, too
		go func() {
			runtime.LockOSThread()
			select {}
		}()
	}
	os.Stdout.WriteString("ready")
	failed := make(chan error)
	ways := append(programs(user, "/bin/sleep", "1000"), guarded(user, "/bin/sleep", "1000")...)
	for i := range 4 {
		go func() {
			for n := i; ; n++ {
				if _, err := ways[n%len(ways)].start(context.Background()); err != nil {
					failed <- err
				}
			}
		}()
	}
	return <-failed
}

// Rules 4 and 5: a SIGKILL of the embedder, at whatever instant, takes every child with it, in whatever step that is:
// PR_SET_PDEATHSIG is set first, the embedder seen alive after it, and both again after each change of ids; the guard has what
// loses it.
func TestEmbedderKilled(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		mark := fmt.Sprintf("%s=%d-%d", markEnv, os.Getpid(), time.Now().UnixNano())
		log, err := os.CreateTemp(t.TempDir(), "")
		require.NoError(t, err)
		defer log.Close()
		rounds := kills
		if testing.Short() {
			rounds /= 10
		}
		const batch = 25
		for done := 0; done < rounds; done += batch {
			for i := range batch {
				killOne(t, mark, log, i)
			}
			left := []int{-1}
			for end := time.Now().Add(3 * time.Second); len(left) > 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
				left = append(processesWith(mark), inits()...)
			}
			for _, pid := range left {
				comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
				t.Errorf("process %d, %q, outlived its embedder (%d embedders killed so far)", pid, comm, done+batch)
				require.NoError(t, unix.Kill(pid, unix.SIGKILL))
			}
		}
	})
}

func killOne(t *testing.T, mark string, log *os.File, i int) {
	cmd := embedder(t, "spawner")
	cmd.Env = append(cmd.Env, mark)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = log // no pipe: one that outlives its embedder would keep it open
	require.NoError(t, cmd.Start())
	if i%5 > 0 { // one in five is hit while it starts
		_, err = io.ReadFull(out, make([]byte, 5))
		require.NoError(t, err, "the embedder ended: see %s", log.Name())
	}
	time.Sleep(rand.N(5 * time.Millisecond))
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signal() != syscall.SIGKILL {
		text, err := os.ReadFile(log.Name())
		require.NoError(t, err)
		t.Fatalf("the embedder ended before it was killed: %#x\n%s", status, text)
	}
}
