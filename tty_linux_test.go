//go:build linux

package sandbox_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
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
