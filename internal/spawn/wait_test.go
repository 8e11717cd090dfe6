//go:build linux

package spawn

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// Rule 9: an embedder that ignores SIGCHLD, in whichever way, or has a loop of wait4(-1) as a program that is PID 1 of
// a container does, takes the status away from us. The pidfd still has it (6.15); without that it is not known, and
// never wrong.
func TestStatusTaken(t *testing.T) {
	exit := testenv.C(t, exitSource)
	leader := testenv.C(t, leaderSource)
	for _, how := range []string{"ignore", "sigaction", "nocldwait", "wait4"} {
		for _, source := range []string{"pidfd", "none"} {
			t.Run(how+", "+source, func(t *testing.T) { inRole(t, "taken", how, source, exit, leader) })
		}
	}
}

func statusTaken(args []string) error {
	how, source, exit, leader := args[0], args[1], args[2], args[3]
	stop, err := takeStatus(how)
	if err != nil {
		return err
	}
	defer stop()
	if source == "none" {
		SetHook(&Hook{PauseAt: -1, NoExitInfo: true})
	}
	known := 0
	user, err := newUserNS(context.Background())
	if err != nil {
		return err
	}
	for i := range 200 {
		want, argv := unix.WaitStatus(i<<8), []string{exit, "exit", strconv.Itoa(i)}
		switch {
		case i%8 == 6:
			want, argv = 9, []string{exit, "kill", "9"}
		case i%32 == 7:
			want, argv = 7<<8, []string{leader}
		}
		all := programs(user, argv...)
		way := all[i/2%len(all)]
		p, err := way.start(context.Background())
		if err != nil {
			return fmt.Errorf("%q: %w", argv, err)
		}
		if i%3 == 0 { // its status is gone before we ask
			time.Sleep(2 * time.Millisecond)
		}
		s, err := p.Wait(context.Background())
		if err := errors.Join(err, p.Close()); err != nil {
			return fmt.Errorf("%q: %w", argv, err)
		}
		if s.Known {
			known++
		}
		// As PID 1 a program does not die of a signal that it sends itself.
		if s.Known && s.Status != want && !(want == 9 && way.name != "plain" && s.Status == 97<<8) {
			return fmt.Errorf("%q: status %#x, want %#x", argv, s.Status, want)
		}
	}
	if source == "pidfd" && known != 200 {
		return fmt.Errorf("%d of 200 statuses were known", known)
	}
	if source == "none" && known > 0 && how != "wait4" {
		return fmt.Errorf("%d statuses were known: they were not taken", known)
	}
	return nil
}

// takeStatus has the statuses of our children go elsewhere.
func takeStatus(how string) (stop func(), err error) {
	const saNoCldWait = 2
	switch how {
	case "ignore":
		signal.Ignore(unix.SIGCHLD)
	case "sigaction":
		err = sigaction(unix.SIGCHLD, 1 /* SIG_IGN */, 0)
	case "nocldwait":
		err = sigaction(unix.SIGCHLD, 0, saNoCldWait)
	case "wait4":
		end := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				if pid, _ := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 {
					time.Sleep(20 * time.Microsecond)
				}
			}
		})
		return func() { close(end); wg.Wait() }, nil
	}
	return func() {}, err
}

func sigaction(sig unix.Signal, handler, flags uintptr) error {
	act := [4]uintptr{handler, flags}
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&act)), 0, 8, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// leaderSource is a program whose first thread ends before, with another status than, the process.
const leaderSource = `
#include <pthread.h>
#include <unistd.h>
#include <sys/syscall.h>
static void *last(void *x) { usleep(3000); _exit(7); }
int main() {
	pthread_t t;
	pthread_create(&t, 0, last, 0);
	syscall(SYS_exit, 3);
}`

// The same program with nobody in the way.
func TestLeaderEndsFirst(t *testing.T) {
	testenv.Leaks(t)
	t.Cleanup(Release)
	p, err := Start(t.Context(), Setup{Files: 3}, plain(testenv.C(t, leaderSource)))
	require.NoError(t, err)
	require.Equal(t, 7, wait(t, p).ExitStatus())
}

// Wait's context bounds the wait and nothing else, and a Wait that it ended can be made again.
func TestWaitContext(t *testing.T) {
	testenv.Leaks(t)
	t.Cleanup(Release)
	p, err := Start(t.Context(), Setup{Files: 3}, plain("/bin/sleep", "1000"))
	require.NoError(t, err)
	for i := range 100 {
		ctx, cancel := context.WithCancelCause(t.Context())
		if i%2 == 0 {
			cancel(errCause)
		} else {
			time.AfterFunc(time.Millisecond, func() { cancel(errCause) })
		}
		_, err = p.Wait(ctx)
		require.Equal(t, errCause, err)
	}
	time.AfterFunc(10*time.Millisecond, func() { p.Signal(unix.SIGTERM) })
	s, err := p.Wait(t.Context())
	require.NoError(t, err)
	require.Equal(t, unix.SIGTERM, s.Status.Signal())
	require.NotNil(t, s.Rusage)
	require.ErrorContains(t, p.Signal(unix.SIGTERM), "already finished")
	require.NoError(t, p.Close())
	require.ErrorContains(t, p.Signal(unix.SIGTERM), "already finished")
}

// Many waits take no thread.
func TestWaitTakesNoThread(t *testing.T) {
	testenv.Leaks(t)
	t.Cleanup(Release)
	warm(t)
	before := testenv.Threads()
	var ps []*Process
	var wg sync.WaitGroup
	for range 200 {
		p, err := Start(t.Context(), Setup{Files: 3}, plain("/bin/sleep", "1000"))
		require.NoError(t, err)
		ps = append(ps, p)
		wg.Go(func() {
			s, err := p.Wait(context.Background())
			if err != nil || s.Status.Signal() != unix.SIGKILL {
				t.Errorf("%v %#x", err, s.Status)
			}
		})
	}
	runtime.Gosched()
	require.LessOrEqual(t, testenv.Threads(), before+maxThreads()+16)
	for _, p := range ps {
		require.NoError(t, p.Signal(unix.SIGKILL))
	}
	wg.Wait()
	for _, p := range ps {
		require.NoError(t, p.Close())
	}
}
