//go:build linux

package spawn

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// hogSource is a program that takes memory until it is killed.
const hogSource = `
#include <stdlib.h>
#include <string.h>
int main() {
	for (int i = 0; i < 256; i++) memset(malloc(1 << 20), 1, 1 << 20);
	return 0;
}`

// Rule 3: in a memory cgroup too small to exec in, the exec fails, or its child alone is killed. Never the embedder, and
// never without an error or a status that says so.
func TestTinyMemory(t *testing.T) {
	testenv.Root(t)
	testenv.Leaks(t)
	t.Cleanup(Release)
	c := newCgroup(t, "memory")
	tasks := c.open(t, "tasks")
	defer tasks.Close()
	exit := testenv.C(t, exitSource)
	for _, limit := range []int{0, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 64 << 20} {
		for _, nested := range []bool{false, true} {
			msg := fmt.Sprintf("%d bytes, nested %t", limit, nested)
			c.write(t, "memory.limit_in_bytes", fmt.Sprint(limit))
			p, err := Start(t.Context(), Setup{Files: 3}, joining(tasks, nested, exit, "exit", "7"))
			if err != nil {
				require.Less(t, limit, 64<<20, msg)
				var e *ExecError
				require.ErrorAs(t, err, &e, msg)
				require.Contains(t, []syscall.Errno{unix.ENOMEM, unix.E2BIG}, e.Errno, msg)
				continue
			}
			require.Greater(t, limit, 4<<10, msg)
			status := wait(t, p)
			if status != 7<<8 {
				require.Less(t, limit, 64<<20, msg)
				require.Contains(t, []unix.Signal{unix.SIGKILL, unix.SIGSEGV, unix.SIGBUS}, status.Signal(), "%s: %#x", msg, status)
			}
		}
	}
}

// Rule 1: the OOM killer passes over a child in vfork, though its memory, the embedder's, is by far the largest in the
// cgroup. Without CLONE_VFORK it takes the child, and with it everybody who shares that memory.
func TestOOMKillerPassesOver(t *testing.T) {
	testenv.Root(t)
	hog := testenv.C(t, hogSource)
	for _, kind := range []string{"plain", "nested"} {
		t.Run(kind, func(t *testing.T) {
			c := newCgroup(t, "memory")
			c.write(t, "memory.limit_in_bytes", fmt.Sprint(16<<20))
			inRole(t, "oom", string(c), hog, kind)
			require.Contains(t, c.read(t, "memory.oom_control"), "oom_kill 1\n")
		})
	}
}

// besideHog has a child wait in the cgroup, in its own large memory, while another command there runs out of memory.
func besideHog(args []string) error {
	heap := make([]byte, 200<<20)
	for i := 0; i < len(heap); i += os.Getpagesize() {
		heap[i] = 1
	}
	defer func() { heap[0]++ }()
	tasks, err := os.OpenFile(args[0]+"/tasks", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		_, err := Start(ctx, Setup{Files: 3}, command(func(p *Program) {
			in, out := p.Input(int(tasks.Fd())), p.Input(int(w.Fd()))
			if args[2] == "nested" {
				p.ForkCommand(0, NoRef)
			}
			p.Do("write", "tasks", unix.SYS_WRITE, in, "0", 1)
			p.Do("write", "pipe", unix.SYS_WRITE, out, "joined\n", 7)
			p.Do("ppoll", "", unix.SYS_PPOLL, 0, 0, 0, 0, 8)
		}, "/bin/true"))
		ended <- err
	}()
	if _, err := bufio.NewReader(r).ReadString('\n'); err != nil {
		return err
	}
	// By another program: it must not run while this one is in vfork's shadow.
	cmd := exec.Command("/bin/sh", "-c", `echo 0 > "$0"/tasks && exec "$1"`, args[0], args[1])
	out, err := cmd.CombinedOutput()
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
		return fmt.Errorf("the hog was not killed: %v %s", err, out)
	}
	select {
	case err := <-ended:
		return fmt.Errorf("the child did not live on: %w", err)
	case <-time.After(100 * time.Millisecond):
	}
	cancel(errCause)
	if err := <-ended; !errors.Is(err, errCause) {
		return err
	}
	return nil
}
