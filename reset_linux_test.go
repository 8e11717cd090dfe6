package sandbox_test

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

//go:embed testdata/traces.c
var tracesSource string

// traces are all that testdata/traces.c can leave.
const traces = "root tmp shm mqueue shmget semget msgget abstract port key process ."

// tracing runs f with Options in which testdata/traces.c is /bin/traces.
func tracing(t *testing.T, f func(t *testing.T, o sandbox.Options)) {
	testenv.C(t, tracesSource)
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		f(t, sandbox.Options{
			Store: store(t), Rootfs: rootWith(t, map[string]string{"traces": testenv.C(t, tracesSource)}),
			Security: sandbox.Security{Seccomp: "off"}, // keys
		})
	})
}

// leave starts a command that leaves all that it can.
func leave(t testing.TB, sb *sandbox.Sandbox) *sandbox.Process {
	c := sandbox.Command("/bin/traces", "leave")
	c.Pipes = sandbox.PipeStdout
	p, err := sb.Start(t.Context(), c)
	require.NoError(t, err)
	line, err := bufio.NewReader(p.Stdout).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, traces, strings.TrimSpace(line))
	require.NoError(t, p.Stdout.Close())
	return p
}

// look is what a command finds in a sandbox.
func look(t testing.TB, sb *sandbox.Sandbox) string {
	out, err := sb.Output(t.Context(), sandbox.Command("/bin/traces", "look"))
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

// After a Reset nothing is left of what ran before. The control: beside the one that leaves it, all is found.
func TestReset(t *testing.T) {
	tracing(t, func(t *testing.T, o sandbox.Options) {
		sb := box(t, o)
		require.NoError(t, sb.Reset(t.Context()), "nothing was built")
		for range 3 {
			p := leave(t, sb)
			var found strings.Builder
			beside := sandbox.Command("/bin/traces", "look")
			beside.Stdout = &found
			_, err := p.Run(t.Context(), beside)
			require.NoError(t, err)
			require.Equal(t, traces, strings.TrimSpace(found.String()))

			name := sb.Name()
			guest, err := p.Start(t.Context(), sandbox.Command("/bin/traces", "leave"))
			require.NoError(t, err)
			require.NoError(t, sb.Reset(t.Context()))
			for _, p := range []*sandbox.Process{p, guest} {
				res, err := p.Wait(t.Context())
				require.ErrorIs(t, err, sandbox.ErrReset)
				require.Equal(t, sandbox.Killed, res.Status)
			}
			require.Equal(t, ".", look(t, sb))
			require.Equal(t, name, sb.Name())
			_, err = p.Start(t.Context(), sandbox.Command("/bin/traces", "look"))
			require.ErrorIs(t, err, os.ErrProcessDone)
		}
	})
}

// What was had of the sandbox before a Reset is closed; limits that were changed stay.
func TestResetKeeps(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{Limits: sandbox.Limits{Wall: time.Hour}})
		root, err := sb.Root(t.Context())
		require.NoError(t, err)
		l, err := sb.Listen(t.Context(), "tcp", ":0")
		require.NoError(t, err)
		logged := sandbox.Command("sh", "-c", "echo logged; exec sleep 100000")
		logged.Log = &sandbox.Log{}
		p, err := sb.Start(t.Context(), logged)
		require.NoError(t, err)
		var entries int
		follow := make(chan error)
		go func() { // ends with the Reset
			for _, err := range p.Logs(t.Context(), sandbox.LogQuery{Follow: true}) {
				if err != nil {
					follow <- err
					return
				}
				entries++
			}
			follow <- nil
		}()
		require.NoError(t, sb.Update(t.Context(), sandbox.Limits{Wall: 50 * time.Millisecond}))
		require.NoError(t, sb.Reset(t.Context()))
		_, err = root.ReadFile("/etc/hosts")
		require.ErrorIs(t, err, os.ErrClosed)
		_, err = l.Accept()
		require.Error(t, err)
		if err := <-follow; err != nil { // else it was there before the files were removed
			require.ErrorIs(t, err, os.ErrClosed)
		}
		for _, err := range p.Logs(t.Context(), sandbox.LogQuery{}) {
			require.ErrorIs(t, err, os.ErrClosed)
		}
		res, err := sb.Run(t.Context(), sandbox.Command("sleep", "100000"))
		require.NoError(t, err)
		require.Equal(t, sandbox.WallLimit, res.Status)

		ended, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, sb.Reset(ended), context.Canceled)
		require.NoError(t, sb.Close())
		require.ErrorIs(t, sb.Reset(t.Context()), os.ErrClosed)
	})
}

// Resets, commands, Updates and a Close at the same time: every call ends, and says what became of it.
func TestResetConcurrent(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		o := sandbox.Options{Store: store(t)}
		if os.Geteuid() == 0 {
			o.Limits.PIDs = 100
		}
		var ok, reset int
		for i := 0; i < 3 || (i < 100 && (ok == 0 || reset == 0)); i++ {
			sb := sandbox.New(o)
			var all sync.WaitGroup
			for _, use := range []func() error{
				func() error { return sb.Reset(t.Context()) },
				func() error { return sb.Update(t.Context(), o.Limits) },
				func() error { _, err := sb.Root(t.Context()); return err },
				func() error {
					_, err := sb.Run(t.Context(), sandbox.Command("true"))
					if errors.Is(err, sandbox.ErrReset) {
						reset++
						return nil
					}
					ok++
					return err
				},
			} {
				all.Go(func() {
					for {
						if err := use(); err != nil {
							if !errors.Is(err, os.ErrClosed) {
								t.Error(err)
							}
							return
						}
					}
				})
			}
			time.Sleep(150 * time.Millisecond)
			closes(t, sb)
			all.Wait()
		}
		require.NotZero(t, ok, "commands that ran")
		require.NotZero(t, reset, "commands that were killed by a Reset")
	})
}
