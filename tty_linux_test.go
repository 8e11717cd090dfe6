//go:build linux

package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// terminalTime is far more than anything at a terminal takes here.
const terminalTime = 60 * time.Second

// onTerminal is a Cmd that runs a script with a terminal.
func onTerminal(script string) *sandbox.Cmd {
	c := sh(script)
	c.TTY = &sandbox.TTY{}
	return c
}

// screen is what a command with a terminal shows, lines ended by "\n".
func screen(t testing.TB, run func(context.Context, *sandbox.Cmd) (*sandbox.Result, error), c *sandbox.Cmd) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), terminalTime)
	defer cancel()
	var out bytes.Buffer
	c.Stdout = &out
	res, err := run(ctx, c)
	require.NoError(t, err, out.String())
	require.NoError(t, res.Err(), out.String())
	return strings.ReplaceAll(out.String(), "\r\n", "\n")
}

// A typist types at the terminal of a command, when it has shown what was waited for.
type typist struct {
	t    testing.TB
	p    *sandbox.Process
	ctx  context.Context
	seen string
	more chan string
}

// sit starts c and sits down at its terminal.
func sit(t testing.TB, start func(context.Context, *sandbox.Cmd) (*sandbox.Process, error), c *sandbox.Cmd) *typist {
	ctx, cancel := context.WithTimeout(t.Context(), terminalTime)
	t.Cleanup(cancel)
	c.Pipes = sandbox.PipeStdin | sandbox.PipeStdout
	p, err := start(ctx, c)
	require.NoError(t, err)
	y := &typist{t: t, p: p, ctx: ctx, more: make(chan string)}
	var reading sync.WaitGroup
	reading.Go(func() { // ends with the command
		defer close(y.more)
		b := make([]byte, 4096)
		for {
			n, err := p.Stdout.Read(b)
			if err != nil {
				if err != io.EOF {
					t.Error(err)
				}
				return
			}
			select {
			case y.more <- string(b[:n]):
			case <-ctx.Done():
			}
		}
	})
	t.Cleanup(func() {
		_ = p.Kill() // os.ErrProcessDone: it has ended
		cancel()
		reading.Wait()
		p.Stdin.Close()
		p.Stdout.Close()
	})
	return y
}

func (y *typist) typed(text string) {
	y.t.Helper()
	_, err := io.WriteString(y.p.Stdin, text)
	require.NoError(y.t, err)
}

// sees waits until the command has shown text, and forgets what it showed up to there.
func (y *typist) sees(text string) {
	y.t.Helper()
	for {
		if _, after, ok := strings.Cut(y.seen, text); ok {
			y.seen = after
			return
		}
		select {
		case s, ok := <-y.more:
			require.True(y.t, ok, "it ended without %q: %q", text, y.seen)
			y.seen = y.seen[max(0, len(y.seen)-64<<10):] + s
		case <-y.ctx.Done():
			require.FailNow(y.t, "not seen", "%q in %q", text, y.seen)
		}
	}
}

// ends waits for the end, and wants status 0.
func (y *typist) ends() {
	y.t.Helper()
	for s := range y.more {
		y.seen += s
	}
	res, err := y.p.Wait(y.ctx)
	require.NoError(y.t, err)
	require.NoError(y.t, res.Err(), y.seen)
}

// everyStart runs a test for a command that is PID 1, one behind an init, and one beside another.
func everyStart(t *testing.T, f func(t *testing.T, sb *sandbox.Sandbox, start func(context.Context, *sandbox.Cmd) (*sandbox.Process, error))) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		t.Run("first", func(t *testing.T) { f(t, sb, sb.Start) })
		t.Run("init", func(t *testing.T) {
			f(t, sb, func(ctx context.Context, c *sandbox.Cmd) (*sandbox.Process, error) {
				c.Init = true
				return sb.Start(ctx, c)
			})
		})
		t.Run("beside", func(t *testing.T) {
			p := session(t, sb, false)
			f(t, sb, p.Start)
			require.NoError(t, p.Kill())
			_, err := p.Wait(t.Context())
			require.NoError(t, err)
		})
	})
}

// typeItself tries to type what whoever reads the terminal next would read (ioctl_tty(2), TIOCSTI).
const typeItself = `
import fcntl, termios
try: fcntl.ioctl(0, termios.TIOCSTI, b"x")
except OSError as e: print("refused", e.errno)`

// A command with a TTY has a terminal of the sandbox's own as its standard streams, and controls it.
func TestTTY(t *testing.T) {
	everyStart(t, func(t *testing.T, sb *sandbox.Sandbox, start func(context.Context, *sandbox.Cmd) (*sandbox.Process, error)) {
		w, read := pipeFile(t)
		c := onTerminal(`tty; test -t 0 -a -t 1 -a -t 2 && echo all; stty size; echo $TERM
			echo links $(readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2 | sort -u | wc -l); : >/dev/tty && echo controls; ps -o tty= -p $$
			stat -c '%u %A' $(tty); test "$(stat -c %d:%i /dev/pts/ptmx)" = "$(stat -L -c %d:%i /dev/ptmx)" && echo own
			python3 -c "$TYPE"; echo extra >&3; echo err >&2`)
		c.Env = []string{"TYPE=" + typeItself}
		c.ExtraFiles = []*os.File{w}
		y := sit(t, start, c)
		for _, line := range []string{"/dev/pts/", "all", "24 80", "xterm", "links 1", "controls", "pts/", "0 crw--w----", "own", "refused 1", "err"} {
			y.sees(line)
		}
		y.ends()
		require.Equal(t, "extra\n", read())
	})
}

// The terminal of a command belongs to its user, of group tty, if there are such.
func TestTTYOwner(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		c := onTerminal("stat -c '%u %g %a' $(tty); echo $TERM; : <$(tty) && : >$(tty)")
		c.Env = []string{"TERM=dumb"}
		want := "0 0 620\ndumb\n"
		if !oneID(t) {
			c.User, want = "1234:1235", "1234 5 620\ndumb\n"
		}
		require.Equal(t, want, screen(t, sb.Run, c))
		if !oneID(t) {
			p := session(t, sb, false)
			require.Equal(t, want, screen(t, p.Run, c))
		}
	})
}

// Resize changes the size and tells the foreground job so.
func TestTTYResize(t *testing.T) {
	everyStart(t, func(t *testing.T, sb *sandbox.Sandbox, start func(context.Context, *sandbox.Cmd) (*sandbox.Process, error)) {
		c := onTerminal(`stty -echo; trap 'echo now $(stty size)' WINCH; stty size; while read x; do echo got $x; test $x != end || exit 0; done; while :; do read x; test "$x" != end || exit 0; done`)
		c.TTY = &sandbox.TTY{Rows: 50, Cols: 132}
		y := sit(t, start, c)
		y.sees("50 132")
		require.NoError(t, y.p.Resize(10, 65535))
		y.typed("a\n") // dash runs a trap when its read has ended
		y.sees("now 10 65535")
		y.typed("end\nend\n")
		y.ends()
		require.ErrorIs(t, y.p.Resize(10, 10), os.ErrProcessDone)
	})
}

// What is wrong is said at once, and of all fields.
func TestTTYInvalid(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		c := onTerminal("true")
		c.Stderr, c.Pipes = io.Discard, sandbox.PipeStderr|sandbox.PipeStdout
		_, err := sb.Start(t.Context(), c)
		requireFields(t, err, "Cmd.Stderr", "Cmd.Stderr", "Cmd.Pipes")
		p := session(t, sb, false)
		requireFields(t, p.Resize(0, 0), "Cmd.TTY", "rows", "cols")
		c = onTerminal("exec sleep 1000")
		other, err := sb.Start(t.Context(), c)
		require.NoError(t, err)
		requireFields(t, other.Resize(0, 1), "rows")
		require.NoError(t, other.Resize(1, 1))
		require.NoError(t, sb.Close())
		require.ErrorIs(t, other.Resize(1, 1), os.ErrProcessDone)
	})
}

// Output has all that is shown.
func TestTTYOutput(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		c := onTerminal("echo out; echo err >&2; exit 4")
		out, err := sb.Output(t.Context(), c)
		var e *sandbox.ExitError
		require.ErrorAs(t, err, &e)
		require.Equal(t, "out\r\nerr\r\n", string(out))
		require.Empty(t, e.Stderr)
		mustExit(t, sb, onTerminal("head -c 1000000 /dev/zero")) // nobody wants it
		for n := range 20 {                                      // no last word is lost
			out, err := sb.Output(t.Context(), onTerminal(fmt.Sprintf("seq %d", n*500)))
			require.NoError(t, err)
			require.Equal(t, n*500, strings.Count(string(out), "\r\n"))
		}
	})
}

// The keys for signals reach the foreground job alone, and jobs stop and go on.
func TestTTYJobs(t *testing.T) {
	everyStart(t, func(t *testing.T, sb *sandbox.Sandbox, start func(context.Context, *sandbox.Cmd) (*sandbox.Process, error)) {
		c := sandbox.Command("bash", "--norc", "--noediting", "-i")
		c.TTY, c.Env = &sandbox.TTY{}, []string{"PS1=> "}
		y := sit(t, start, c)
		y.sees("> ")
		y.typed("stty -echo\n")
		y.sees("> ")
		y.typed("sleep 4321 & sh -c 'echo up; exec sleep 1234'\n")
		y.sees("up")
		y.typed("\x03") // ^C
		y.sees("> ")
		y.typed("echo $?; jobs\n")
		y.sees("130")
		y.sees("Running")
		y.sees("> ")
		y.typed("sh -c 'echo up; exec cat'\n")
		y.sees("up")
		y.typed("\x1a") // ^Z
		y.sees("Stopped")
		y.sees("> ")
		y.typed("fg\n")
		y.sees("cat")
		y.typed("back\n")
		y.sees("back")
		y.typed("\x04") // the end of the file that cat reads
		y.sees("> ")
		y.typed("kill %1; exit 0\n")
		y.ends()
	})
}

// A Reader's end is none at a terminal; the character for it is.
func TestTTYStdin(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		c := onTerminal("read a; echo $a; cat")
		c.Stdin = strings.NewReader("first\nsecond\n\x04")
		require.Regexp(t, "^first\nsecond\n(\\^D\b\b)?first\nsecond\n$", screen(t, sb.Run, c))
		// A file that says nothing any more holds nobody up.
		r, w, err := os.Pipe()
		require.NoError(t, err)
		defer r.Close()
		defer w.Close()
		_, err = io.WriteString(w, "typed\n")
		require.NoError(t, err)
		c = onTerminal("read a; echo got $a")
		c.Stdin = r
		require.Contains(t, screen(t, sb.Run, c), "got typed\n")
		require.NoError(t, w.SetDeadline(time.Now().Add(terminalTime)), "the file is as it was")
	})
}

// In raw mode every byte passes as it is, both ways.
func TestTTYRaw(t *testing.T) {
	everyStart(t, func(t *testing.T, sb *sandbox.Sandbox, start func(context.Context, *sandbox.Cmd) (*sandbox.Process, error)) {
		const size = 300 << 10
		c := onTerminal(fmt.Sprintf("stty raw -echo; echo ready; exec head -c %d", size))
		y := sit(t, start, c)
		y.sees("ready\n")
		want := make([]byte, size)
		for i := range want {
			want[i] = byte(i + i>>8)
		}
		var writing sync.WaitGroup
		writing.Go(func() {
			_, err := y.p.Stdin.Write(want)
			if err != nil {
				t.Error(err)
			}
		})
		y.ends()
		writing.Wait()
		require.True(t, bytes.Equal(want, []byte(y.seen)), "%d bytes", len(y.seen))
		_, err := y.p.Stdin.Write(want)
		require.Error(t, err)
	})
}

// What is shown counts for Limits.Output.
func TestTTYLimitsOutput(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		for _, drop := range []bool{false, true} {
			var out bytes.Buffer
			c := onTerminal("head -c 300000 /dev/zero")
			c.Stdout, c.Limits.Output, c.DropOutput = &out, 1000, drop
			res, err := sb.Run(t.Context(), c)
			require.NoError(t, err)
			require.Equal(t, 1000, out.Len())
			require.Len(t, res.Hit, 1)
			require.Equal(t, drop, res.Status == sandbox.Exited, "%v", res)
			if drop {
				require.EqualValues(t, 300000, res.Usage.Output)
			} else {
				require.Equal(t, sandbox.OutputLimit, res.Status)
			}
		}
	})
}

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
		require.NoError(t, p.Kill())
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
