package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/rootfs"
)

// idle starts a session.
func idle(t testing.TB, sb *sandbox.Sandbox) *sandbox.Process {
	p, err := sb.Start(t.Context(), sandbox.Idle())
	require.NoError(t, err)
	return p
}

// In a session what a step leaves behind lives on, until the session ends.
func TestIdle(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{Mounts: []rootfs.Mount{
			{Type: rootfs.Tmpfs, Target: "/job", Writable: true, Scope: rootfs.PerRun},
			{Type: rootfs.File, Target: "/note", Data: []byte("given"), Scope: rootfs.PerRun},
		}})
		p, mark := idle(t, sb), newMark()
		require.Equal(t, "given", beside(t, p, "sleep "+mark+" </dev/null >/dev/null 2>&1 & echo one >/job/step; cat /note"))
		require.Equal(t, "one 1 init", beside(t, p, "echo $(cat /job/step) $(pgrep -c -f 'sleep "+mark[:9]+"["+mark[9:]+"]') $(cat /proc/1/comm)"))
		other := idle(t, sb)
		require.Equal(t, "0", beside(t, other, "ls /job | wc -l"), "a session has its own")
		for sig := range 32 {
			if sig != 9 && sig != 19 {
				require.Equal(t, "", beside(t, p, "kill -"+strconv.Itoa(sig)+" 1 || true"))
			}
		}
		select {
		case <-p.Done():
			t.Fatal("it has ended")
		default:
		}

		res, err := p.Stop(t.Context(), time.Hour)
		require.NoError(t, err)
		require.Equal(t, sandbox.Killed, res.Status)
		require.True(t, res.Applied.Init)
		require.Empty(t, living(t, mark))
		_, err = p.Start(t.Context(), sandbox.Command("true"))
		require.ErrorIs(t, err, os.ErrProcessDone)
		mustExit(t, sb, sandbox.Command("true"))

		closes(t, sb)
		res, err = other.Wait(t.Context())
		require.ErrorIs(t, err, os.ErrClosed)
		require.Equal(t, sandbox.Killed, res.Status)
	})
}

// The defaults of Options hold for what is started in a session, its own Wall for itself.
func TestIdleLimits(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		l := sandbox.Limits{Wall: 200 * time.Millisecond, Output: 10}
		if os.Geteuid() == 0 {
			l.Memory, l.CPUTime = 32<<20, time.Second // by cgroups
		}
		sb := box(t, sandbox.Options{Limits: l})
		p := idle(t, sb)
		res, err := p.Run(t.Context(), sandbox.Command("sleep", "100000"))
		require.NoError(t, err)
		require.Equal(t, sandbox.WallLimit, res.Status)
		var out bytes.Buffer
		flood := sandbox.Command("yes")
		flood.Stdout, flood.Limits.Wall = &out, time.Minute
		res, err = p.Run(t.Context(), flood)
		require.NoError(t, err)
		require.Equal(t, sandbox.OutputLimit, res.Status)
		require.Len(t, out.String(), 10)
		_, err = p.Stop(t.Context(), 0)
		require.NoError(t, err)

		short := sandbox.Idle()
		short.Limits.Wall = 50 * time.Millisecond
		res, err = sb.Run(t.Context(), short)
		require.NoError(t, err)
		require.Equal(t, sandbox.WallLimit, res.Status)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { // ends with the session
			for {
				if all, err := sb.Processes(ctx); len(all) > 0 || err != nil {
					cancel()
					return
				}
			}
		}()
		res, err = sb.Run(ctx, sandbox.Idle())
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, sandbox.Canceled, res.Status)
	})
}

// A session takes nothing that needs a command.
func TestIdleBadInput(t *testing.T) {
	sb := box(t, sandbox.Options{})
	for name, set := range map[string]func(*sandbox.Cmd){
		"Args":   func(c *sandbox.Cmd) { c.Args = []string{"true"} },
		"Stdin":  func(c *sandbox.Cmd) { c.Stdin = strings.NewReader("") },
		"TTY":    func(c *sandbox.Cmd) { c.TTY = &sandbox.TTY{} },
		"Init":   func(c *sandbox.Cmd) { c.Init = true },
		"Memory": func(c *sandbox.Cmd) { c.Limits.Memory = 1 << 20 },
		"Pipes":  func(c *sandbox.Cmd) { c.Pipes = sandbox.PipeStdout },
	} {
		c := sandbox.Idle()
		set(c)
		_, err := sb.Start(t.Context(), c)
		require.ErrorIs(t, err, fs.ErrInvalid, name)
		require.ErrorContains(t, err, "Limits.Wall", name)
	}
	_, err := box(t, sandbox.Options{Clock: &sandbox.Clock{Boottime: time.Hour}}).Start(t.Context(), sandbox.Idle())
	require.ErrorIs(t, err, fs.ErrInvalid)
	p := idle(t, sb)
	_, err = p.Start(t.Context(), sandbox.Idle())
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = sb.Output(t.Context(), sandbox.Idle())
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.NoError(t, p.Kill())
}

// Sessions at the same time, with steps at the same time, leave nothing.
func TestSessions(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		sessions(t, 24, 10)
	})
}

// sessions runs n of them, eight at a time, each with so many steps.
func sessions(t *testing.T, n, steps int) {
	st := store(t)
	var group sync.WaitGroup
	next, failed := make(chan int), make(chan error, n)
	for range 8 {
		group.Go(func() {
			for range next {
				failed <- oneSession(t.Context(), st, steps)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	group.Wait()
	for range n {
		require.NoError(t, <-failed)
	}
}

func oneSession(ctx context.Context, st *sandbox.Store, steps int) (err error) {
	sb := sandbox.New(sandbox.Options{Store: st})
	defer func() { err = errors.Join(err, sb.Close()) }()
	p, err := sb.Start(ctx, sandbox.Idle())
	if err != nil {
		return err
	}
	failed := make(chan error, steps)
	for i := range steps {
		go func() { // ends with its step
			res, err := p.Run(ctx, sandbox.Command("sh", "-c", "sleep 1000 & echo $! >/tmp/"+strconv.Itoa(i)))
			if err == nil {
				err = res.Err()
			}
			failed <- err
		}()
	}
	for range steps {
		err = errors.Join(err, <-failed)
	}
	return err
}
