package sandbox_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// keys are typed again and again, for ever.
type keys string

func (k keys) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = k[i%len(k)]
	}
	return len(b), nil
}

// Whatever a command does with its terminal, Kill, Close and the end of a context end it, and Wait returns.
func TestTTYHostile(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		for name, script := range map[string]string{
			"input unread":          "stty raw -echo; echo up; exec sleep 1000",
			"output stopped":        "python3 -c 'import termios; termios.tcflow(1, termios.TCOOFF)' && echo up >&3; exec yes",
			"output stopped by key": "sleep 0.01; echo up >&3; exec yes",
			"streams closed":        "exec </dev/null >/dev/null 2>&1; echo up >&3; exec sleep 1000",
			"others left":           "(trap '' HUP; setsid sh -c 'while :; do echo flood; done' &) ; echo up >&3; exec sleep 1000",
		} {
			t.Run(name, func(t *testing.T) {
				cause := errors.New("enough")
				for how, end := range map[string]func(cancel func(error), p *sandbox.Process, sb *sandbox.Sandbox){
					"kill":    func(_ func(error), p *sandbox.Process, _ *sandbox.Sandbox) { _ = p.Kill() },
					"close":   func(_ func(error), _ *sandbox.Process, sb *sandbox.Sandbox) { _ = sb.Close() },
					"context": func(cancel func(error), _ *sandbox.Process, _ *sandbox.Sandbox) { cancel(cause) },
				} {
					sb := box(t, sandbox.Options{})
					up, theirs, err := os.Pipe()
					require.NoError(t, err)
					c := onTerminal(script)
					c.Stdin, c.ExtraFiles = keys("x"), []*os.File{theirs}
					switch name {
					case "input unread":
						c.Stdout = theirs
					case "output stopped by key":
						c.Stdin = keys("\x13x") // ^S
					}
					ctx, cancel := context.WithCancelCause(t.Context())
					host := session(t, sb, false)
					var results sync.WaitGroup
					for _, start := range []func(context.Context, *sandbox.Cmd) (*sandbox.Process, error){sb.Start, host.Start} {
						p, err := start(ctx, c)
						require.NoError(t, err)
						_, err = io.ReadFull(up, make([]byte, 3))
						require.NoError(t, err)
						if how == "context" {
							continue
						}
						results.Go(func() {
							ctx, cancel := context.WithTimeout(t.Context(), terminalTime)
							defer cancel()
							if _, err := p.Wait(ctx); errors.Is(err, context.DeadlineExceeded) {
								t.Error(name, how, err)
							}
						})
						end(cancel, p, sb)
						if how == "close" {
							break
						}
					}
					if how == "context" { // bounds all of a Run
						results.Go(func() {
							if _, err := sb.Run(ctx, c); !errors.Is(err, cause) {
								t.Error(name, how, err)
							}
						})
						_, err = io.ReadFull(up, make([]byte, 3))
						require.NoError(t, err)
						end(cancel, nil, nil)
					}
					results.Wait()
					cancel(nil)
					require.NoError(t, sb.Close())
					up.Close()
					theirs.Close()
				}
			})
		}
	})
}

// What others do with a command's terminal neither lets its end be waited for nor outlives it.
func TestTTYOpenedByOthers(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		y := sit(t, sb.Start, onTerminal("tty; read x; echo last"))
		y.sees("/dev/pts/")
		y.sees("\n")
		other := sh("exec 4<>/dev/pts/0; echo up; cat <&4 & yes flood >&4 & yes flood >&4 & exec yes flood >&4")
		other.Pipes = sandbox.PipeStdout
		p, err := sb.Start(t.Context(), other)
		require.NoError(t, err)
		_, err = io.ReadFull(p.Stdout, make([]byte, 3))
		require.NoError(t, err)
		y.sees("flood")
		y.typed("\n\n\n\n\n\n\n\n")
		y.sees("last")
		y.ends()
		require.NoError(t, y.p.Stdout.Close())
		_ = p.Kill() // os.ErrProcessDone: the hang-up has ended it
		require.NoError(t, p.Stdout.Close())
		_, err = p.Wait(t.Context())
		require.NoError(t, err)
	})
}

// To close Stdout hangs up, to close Stdin does not.
func TestTTYClose(t *testing.T) {
	everyStart(t, func(t *testing.T, sb *sandbox.Sandbox, start func(context.Context, *sandbox.Cmd) (*sandbox.Process, error)) {
		w, read := pipeFile(t)
		c := onTerminal("trap 'echo hung up >&3; exit 0' HUP; echo up; while :; do sleep 0.01; done")
		c.ExtraFiles, c.Pipes = []*os.File{w}, sandbox.PipeStdin|sandbox.PipeStdout
		p, err := start(t.Context(), c)
		require.NoError(t, err)
		require.NoError(t, p.Stdin.Close())
		require.ErrorIs(t, p.Stdin.Close(), os.ErrClosed)
		_, err = p.Stdin.Write([]byte("x"))
		require.ErrorIs(t, err, os.ErrClosed)
		_, err = io.ReadFull(p.Stdout, make([]byte, 3))
		require.NoError(t, err)
		require.NoError(t, p.Resize(5, 5))
		require.NoError(t, p.Stdout.Close())
		require.ErrorIs(t, p.Resize(5, 5), os.ErrClosed)
		res, err := p.Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, res.Err())
		require.Equal(t, "hung up\n", read())
	})
}

// A function that answers system calls gets its own descriptor, not the terminal.
func TestTTYNotify(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		handle := func(context.Context, *sandbox.Syscall) sandbox.Answer { return sandbox.Answer{Value: 4} }
		sb := box(t, sandbox.Options{Security: sandbox.Security{Notify: &sandbox.Notify{Calls: []string{"getppid"}, Handle: handle}}})
		p := session(t, sb, false)
		for _, run := range []func(context.Context, *sandbox.Cmd) (*sandbox.Result, error){sb.Run, p.Run} {
			c := onTerminal(`python3 -c 'import os; print(os.getppid(), os.isatty(0))'`)
			require.Equal(t, "4 True\n", screen(t, run, c))
		}
	})
}

// A command that has no room to start has no terminal, either.
func TestTTYWithoutRoom(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		c := onTerminal("true")
		c.Limits.Memory, c.Stdin, c.Stdout = 4096, keys("x"), io.Discard
		res, err := sb.Run(t.Context(), c)
		if errors.Is(err, errors.ErrUnsupported) {
			return // an ordinary user without cgroups
		}
		require.NoError(t, err)
		require.Equal(t, sandbox.MemoryLimit, res.Status)
		c.Stdin, c.Stdout, c.Pipes = nil, nil, sandbox.PipeStdin|sandbox.PipeStdout
		p, err := sb.Start(t.Context(), c)
		require.NoError(t, err)
		out, err := io.ReadAll(p.Stdout)
		require.NoError(t, err)
		require.Empty(t, out)
		_, err = p.Stdin.Write([]byte("x"))
		require.Error(t, err)
		require.ErrorIs(t, p.Resize(1, 1), os.ErrProcessDone)
		require.NoError(t, errors.Join(p.Stdin.Close(), p.Stdout.Close()))
		_, err = p.Wait(t.Context())
		require.NoError(t, err)
	})
}

// A start that fails, and one whose context ends meanwhile, leave nothing open.
func TestTTYUnstarted(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		for i := range 50 {
			c := onTerminal("true")
			c.Stdin = os.Stdin
			if i%5 == 0 {
				c.Args = []string{"absent"}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*200*time.Microsecond)
			_, _ = sb.Run(ctx, c) // whatever it came to
			cancel()
		}
		// The sandbox's terminals are as many as it may have, and it says so.
		hog := sh("exec python3 -c 'import os,time\ntry:\n while 1: os.open(\"/dev/ptmx\", os.O_RDWR|os.O_NOCTTY)\nexcept OSError: pass\nprint(1, flush=True); time.sleep(1000)'")
		hog.Pipes = sandbox.PipeStdout
		p, err := sb.Start(t.Context(), hog)
		require.NoError(t, err)
		_, err = io.ReadFull(p.Stdout, make([]byte, 1))
		require.NoError(t, err)
		_, err = sb.Run(t.Context(), onTerminal("true"))
		require.ErrorContains(t, err, `open "/dev/pts/ptmx": no space left on device`)
		require.NoError(t, p.Kill())
		_, err = p.Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, p.Stdout.Close())
	})
}

// A command may close its streams and come back to its terminal: that does not hang up.
func TestTTYComesBack(t *testing.T) {
	everyStart(t, func(t *testing.T, sb *sandbox.Sandbox, start func(context.Context, *sandbox.Cmd) (*sandbox.Process, error)) {
		y := sit(t, start, onTerminal("echo up; exec <&- >&- 2>&-; sleep 0.1; exec >/dev/tty; echo back"))
		y.sees("up")
		y.sees("back")
		y.ends()
	})
}

// A Reader or Writer that blocks holds Wait up no longer than WaitDelay.
func TestTTYBlockedStream(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		for range 2 {
			b := newBlocked()
			c := onTerminal("echo x; exit 3")
			c.Stdin, c.Stdout, c.WaitDelay = b, b, 50*time.Millisecond
			ctx, cancel := context.WithTimeout(t.Context(), terminalTime)
			res, err := sb.Run(ctx, c)
			cancel()
			close(b.closed)
			require.ErrorIs(t, err, exec.ErrWaitDelay)
			require.Equal(t, "exit status 3", res.String())
		}
	})
}

// Every root and every filter leaves a command its terminal.
func TestTTYEverywhere(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		for name, o := range map[string]sandbox.Options{
			"strict":  {Security: sandbox.Security{Seccomp: "strict", Capabilities: "none"}},
			"off":     {Security: sandbox.Security{Seccomp: "off"}},
			"nesting": {Security: sandbox.Security{Nesting: true}},
			"rootfs":  {Rootfs: skeleton(t)},
		} {
			t.Run(name, func(t *testing.T) {
				sb := box(t, o)
				const script = "test -t 0 && test -t 1 && test -t 2 && : >/dev/tty && echo all"
				require.Equal(t, "all\n", screen(t, sb.Run, onTerminal(script)))
				p := session(t, sb, false)
				require.Equal(t, "all\n", screen(t, p.Run, onTerminal(script)))
			})
		}
	})
}
