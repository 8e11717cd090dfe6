package sandbox_test

import (
	"context"
	"errors"
	"io/fs"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/imagetest"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// started is a command that has said "up".
func started(t testing.TB, sb *sandbox.Sandbox, c *sandbox.Cmd) *sandbox.Process {
	c.Pipes = sandbox.PipeStdout
	p, err := sb.Start(t.Context(), c)
	require.NoError(t, err)
	_, err = p.Stdout.Read(make([]byte, 3))
	require.NoError(t, err)
	t.Cleanup(func() { p.Stdout.Close() })
	return p
}

// Who ends on the signal tells how; who doesn't is killed after the grace, or with the context.
func TestStop(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		const long = time.Minute
		polite := sandbox.Command("sh", "-c", "trap 'exit 7' TERM; trap 'exit 8' USR1; echo up; while :; do sleep 0.01; done")
		deaf := sandbox.Command("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.01; done")

		p := started(t, sb, polite)
		res, err := p.Stop(t.Context(), long)
		require.NoError(t, err)
		require.Equal(t, "exit status 7", res.String())
		again, err := p.Stop(t.Context(), long)
		require.NoError(t, err)
		require.Equal(t, res, again)

		other := *polite
		other.StopSignal = syscall.SIGUSR1
		res, err = started(t, sb, &other).Stop(t.Context(), long)
		require.NoError(t, err)
		require.Equal(t, "exit status 8", res.String())

		res, err = started(t, sb, deaf).Stop(t.Context(), 20*time.Millisecond)
		require.NoError(t, err)
		require.Equal(t, sandbox.Killed, res.Status)

		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		p = started(t, sb, deaf)
		_, err = p.Stop(ctx, long)
		if err != nil { // it may have ended as fast
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		res, err = p.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, sandbox.Killed, res.Status)

		plain := sandbox.Command("sh", "-c", "echo up; exec sleep 1000")
		plain.Init = true
		res, err = started(t, sb, plain).Stop(t.Context(), long)
		require.NoError(t, err)
		require.Equal(t, syscall.SIGTERM, res.Signal, "behind an init it need not handle the signal")

		_, err = sb.Run(t.Context(), &sandbox.Cmd{Args: []string{"true"}, StopSignal: 65})
		require.ErrorIs(t, err, fs.ErrInvalid)
	})
}

// The image says which signal it wants.
func TestStopSignalOfImage(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		needsUnion(t)
		st := store(t)
		for text, want := range map[string]string{"SIGQUIT": "3", "usr1": "10", "12": "12", "SIGRTMIN+3": "37", "SIGNONSENSE": "15", "99": "15", "": "15"} {
			img := withConfig(t, imagetest.Busybox(t), func(c *v1.Config) { c.StopSignal = text })
			ref := imagetest.Registry(t) + "/stop:1"
			imagetest.Push(t, ref, img)
			sb := box(t, sandbox.Options{Store: st, Image: ref})
			c := sandbox.Command("sh", "-c", "for s in 3 10 12 15 37; do trap \"exit $s\" $s; done; echo up; while :; do sleep 0.01; done")
			res, err := started(t, sb, c).Stop(t.Context(), time.Minute)
			require.NoError(t, err)
			require.Equal(t, "exit status "+want, res.String(), "%q", text)
		}
	})
}

// Ready returns with the first success, with the end of the command, or with the context.
func TestReady(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		serve := sandbox.Command("python3", "-c", "import socket, time; time.sleep(0.1); s = socket.create_server(('127.0.0.1', 80)); s.accept(); time.sleep(1000)")
		p, err := sb.Start(t.Context(), serve)
		require.NoError(t, err)
		probes := 0
		dial := func(ctx context.Context) error {
			probes++
			conn, err := sb.Dial(ctx, "tcp", ":80")
			if err == nil {
				err = conn.Close()
			}
			return err
		}
		require.NoError(t, p.Ready(t.Context(), dial))
		require.Greater(t, probes, 1)
		require.NoError(t, p.Kill())

		never := errors.New("not yet")
		for _, code := range []string{"0", "3"} {
			p, err = sb.Start(t.Context(), sandbox.Command("sh", "-c", "sleep 0.05; exit "+code))
			require.NoError(t, err)
			err = p.Ready(t.Context(), func(ctx context.Context) error {
				<-ctx.Done() // a probe that hangs does not outlive the command
				return never
			})
			var exit *sandbox.ExitError
			require.ErrorAs(t, err, &exit)
			require.Equal(t, "exit status "+code, exit.Result.String())
		}

		p, err = sb.Start(t.Context(), sandbox.Command("sleep", "1000"))
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err = p.Ready(ctx, func(context.Context) error { return never })
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, never)
		_, err = p.Stop(t.Context(), 0)
		require.NoError(t, err)
	})
}
