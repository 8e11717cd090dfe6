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
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// sh is a Cmd that runs a script of the shell.
func sh(script string) *sandbox.Cmd { return sandbox.Command("sh", "-c", script) }

// rootWith makes a directory to be a Rootfs, with these programs as /bin/NAME.
func rootWith(t testing.TB, programs map[string]string) string {
	needsUnion(t)
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	for name, from := range programs {
		data, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "bin", name), data, 0o755))
	}
	return dir
}

// mustExit runs c and wants exit status 0 and no error.
func mustExit(t testing.TB, sb *sandbox.Sandbox, c *sandbox.Cmd) *sandbox.Result {
	t.Helper()
	res, err := sb.Run(t.Context(), c)
	require.NoError(t, err)
	require.NoError(t, res.Err())
	return res
}

// inode names a file as stat -L -c %d:%i does.
func inode(t testing.TB, f *os.File) string {
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(int(f.Fd()), &st))
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// pipeFile returns a file that a command can write to, and a function that
// closes it and returns what was written.
func pipeFile(t testing.TB) (*os.File, func() string) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { r.Close(); w.Close() })
	return w, func() string {
		w.Close()
		data, err := io.ReadAll(r)
		require.NoError(t, err)
		return string(data)
	}
}

// A stream that is nil is the null device: reading gives EOF, what is written vanishes.
func TestStdioNil(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		w, read := pipeFile(t)
		c := sh(`s=$(stat -L -c %t:%T /proc/1/fd/0 /proc/1/fd/1 /proc/1/fd/2); read x; echo $s eof $? >&3; echo gone && echo gone >&2`)
		c.ExtraFiles = []*os.File{w}
		mustExit(t, box(t, sandbox.Options{}), c)
		require.Equal(t, "1:3 1:3 1:3 eof 1\n", read())
	})
}

// An *os.File is passed on as it is; another Reader or Writer is a pipe.
func TestStdioFilesPassedOn(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		dir := t.TempDir()
		in, err := os.Create(filepath.Join(dir, "in"))
		require.NoError(t, err)
		defer in.Close()
		out, err := os.Create(filepath.Join(dir, "out"))
		require.NoError(t, err)
		defer out.Close()
		_, err = in.WriteString("first\nsecond\n")
		require.NoError(t, err)
		_, err = in.Seek(6, io.SeekStart) // the offset is shared, as with any inherited descriptor
		require.NoError(t, err)
		sb := box(t, sandbox.Options{})
		c := sh(`read x; echo $x; for i in 0 1 2; do stat -L -c %d:%i /dev/fd/$i; done`)
		c.Stdin, c.Stdout, c.Stderr = in, out, out
		mustExit(t, sb, c)
		data, err := os.ReadFile(out.Name())
		require.NoError(t, err)
		if os.Geteuid() == 0 {
			require.Equal(t, fmt.Sprintf("second\n%s\n%[2]s\n%[2]s\n", inode(t, in), inode(t, out)), string(data))
		} else { // copied: see TestStdioNotOpenedAgain
			require.True(t, strings.HasPrefix(string(data), "second\n"))
			require.NotContains(t, string(data), inode(t, out))
		}

		c = sh(`cat; stat -L -c %F /dev/fd/0 /dev/fd/1`)
		var buf bytes.Buffer
		c.Stdin, c.Stdout = struct{ io.Reader }{strings.NewReader("copied\n")}, &buf
		mustExit(t, sb, c)
		require.Equal(t, "copied\nfifo\nfifo\n", buf.String())
	})
}

// A command can't open a stream's file again with more rights than the descriptor has.
func TestStdioNotOpenedAgain(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		name := filepath.Join(t.TempDir(), "f")
		const attack = `(echo owned 1<>/proc/self/fd/0; : >/proc/self/fd/1; chmod 4777 /proc/self/fd/0 /proc/self/fd/1) 2>/dev/null; :`
		for _, flags := range []int{os.O_RDONLY, os.O_WRONLY, os.O_WRONLY | os.O_APPEND} {
			for _, mode := range []os.FileMode{0o600, 0o666} {
				require.NoError(t, os.WriteFile(name, []byte("theirs"), 0o600))
				require.NoError(t, os.Chmod(name, mode))
				f, err := os.OpenFile(name, flags, 0)
				require.NoError(t, err)
				c := sh(attack)
				if flags == os.O_RDONLY {
					c.Stdin = f
				} else {
					c.Stdout = f
				}
				mustExit(t, sb, c)
				require.NoError(t, f.Close())
				info, err := os.Stat(name)
				require.NoError(t, err)
				require.Equal(t, mode, info.Mode(), "flags %x", flags)
				data, err := os.ReadFile(name)
				require.NoError(t, err)
				require.Equal(t, "theirs", string(data), "flags %x mode %o", flags, mode)
			}
		}
		// The control: a descriptor that is passed on, as ExtraFiles are, is opened again.
		require.NoError(t, os.Chmod(name, 0o666))
		f, err := os.Open(name)
		require.NoError(t, err)
		defer f.Close()
		c := sh(`echo -n owned >/proc/self/fd/3`)
		c.ExtraFiles = []*os.File{f}
		mustExit(t, sb, c)
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		require.Equal(t, "owned", string(data))
	})
}

// The command's descriptors block, whatever the embedder's ends do: few programs expect EAGAIN.
func TestStdioBlocks(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		w, read := pipeFile(t)
		c := sh(`for i in 0 1 2 3; do grep flags /proc/self/fdinfo/$i; done >&3`)
		c.ExtraFiles = []*os.File{w}
		c.Stdin, c.Stdout, c.Stderr = strings.NewReader(""), io.Discard, struct{ io.Writer }{io.Discard}
		mustExit(t, box(t, sandbox.Options{}), c)
		for line := range strings.Lines(read()) {
			flags, err := strconv.ParseInt(strings.Fields(line)[1], 8, 64)
			require.NoError(t, err)
			require.Zero(t, flags&unix.O_NONBLOCK, line)
		}
	})
}

// A socket could bring in descriptors from its other end: as a stream it is copied, not passed on.
func TestStdioSocketIsCopied(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
		defer ours.Close()
		defer theirs.Close()
		c := sh(`stat -L -c %F /dev/fd/0 /dev/fd/1; cat`)
		c.Stdin, c.Stdout = theirs, theirs
		_, err = ours.WriteString("through\n")
		require.NoError(t, err)
		require.NoError(t, unix.Shutdown(fds[0], unix.SHUT_WR))
		mustExit(t, box(t, sandbox.Options{}), c)
		theirs.Close()
		data, err := io.ReadAll(ours)
		require.NoError(t, err)
		require.Equal(t, "fifo\nfifo\nthrough\n", string(data))
	})
}

// onlyOne is a Writer that notices a second call at the same time.
type onlyOne struct {
	busy atomic.Bool
	both atomic.Bool
	buf  bytes.Buffer
}

func (w *onlyOne) Write(b []byte) (int, error) {
	if !w.busy.CompareAndSwap(false, true) {
		w.both.Store(true)
	}
	defer w.busy.Store(false)
	return w.buf.Write(b)
}

// The same Writer for both streams is one pipe: the order of the lines is kept.
func TestStdioSameWriter(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		w := &onlyOne{}
		c := sh(`i=0; while [ $i -lt 2000 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done`)
		c.Stdout, c.Stderr = w, w
		mustExit(t, sb, c)
		var want strings.Builder
		for i := range 2000 {
			fmt.Fprintf(&want, "o%d\ne%d\n", i, i)
		}
		require.Equal(t, want.String(), w.buf.String())
		require.False(t, w.both.Load(), "two calls of Write at once")
	})
}

// deep is comparable as a type and not as a value: comparing two panics.
type deep struct{ v any }

func (d deep) Write(b []byte) (int, error) { return d.v.([]io.Writer)[0].Write(b) }

type flat []io.Writer

func (f flat) Write(b []byte) (int, error) { return f[0].Write(b) }

// Writers that can't be compared are two, and nothing panics.
func TestStdioUncomparableWriters(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		for _, same := range []func(io.Writer) io.Writer{
			func(w io.Writer) io.Writer { return deep{[]io.Writer{w}} },
			func(w io.Writer) io.Writer { return flat{w} },
		} {
			var out, errs bytes.Buffer
			c := sh("echo out; echo err >&2")
			c.Stdout, c.Stderr = same(&out), same(&errs)
			mustExit(t, sb, c)
			require.Equal(t, "out\nerr\n", out.String()+errs.String())
		}
	})
}

// The Process has the ends of the streams that Pipes names, and Run, which returns none, refuses them.
func TestStdioPipes(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		c := sh("while read x; do echo got $x; echo err $x >&2; done")
		c.Pipes = sandbox.PipeStdin | sandbox.PipeStdout | sandbox.PipeStderr
		p, err := sb.Start(t.Context(), c)
		require.NoError(t, err)
		_, err = io.WriteString(p.Stdin, "a\nb\n")
		require.NoError(t, err)
		require.NoError(t, p.Stdin.Close())
		out, err := io.ReadAll(p.Stdout)
		require.NoError(t, err)
		errs, err := io.ReadAll(p.Stderr)
		require.NoError(t, err)
		require.Equal(t, "got a\ngot b\n|err a\nerr b\n", string(out)+"|"+string(errs))
		res, err := p.Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, res.Err())
		require.NoError(t, errors.Join(p.Stdout.Close(), p.Stderr.Close()))

		res, err = sb.Run(t.Context(), c)
		require.Nil(t, res)
		requireFields(t, err, "Cmd.Pipes")
	})
}

// blocked is a Reader and Writer that blocks until it is closed, and says when it does.
type blocked struct {
	closed chan struct{}
	blocks chan struct{}
	once   *sync.Once
}

func newBlocked() blocked { return blocked{make(chan struct{}), make(chan struct{}), new(sync.Once)} }

func (b blocked) block() {
	b.once.Do(func() { close(b.blocks) })
	<-b.closed
}

func (b blocked) Read([]byte) (int, error)  { b.block(); return 0, io.EOF }
func (b blocked) Write([]byte) (int, error) { b.block(); return 0, io.ErrClosedPipe }

// A Reader or Writer that blocks holds Run up no longer than WaitDelay, or than a moment after its context or the
// sandbox ended. How the command itself ended stays known.
func TestStdioBlockedStream(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		cause := errors.New("enough")
		for name, tt := range map[string]struct {
			cmd   func(b blocked) *sandbox.Cmd
			delay time.Duration
			end   func(cancel context.CancelCauseFunc, sb *sandbox.Sandbox)
			want  error
		}{
			"reader, WaitDelay": {func(b blocked) *sandbox.Cmd { c := sh("exit 3"); c.Stdin = b; return c }, 50 * time.Millisecond, nil, nil},
			"writer, WaitDelay": {func(b blocked) *sandbox.Cmd { c := sh("echo x; exit 3"); c.Stdout = b; return c }, 50 * time.Millisecond, nil, nil},
			"reader, context": {func(b blocked) *sandbox.Cmd { c := sh("exit 3"); c.Stdin = b; return c }, 0,
				func(cancel context.CancelCauseFunc, _ *sandbox.Sandbox) { cancel(cause) }, cause},
			"writer, Close": {func(b blocked) *sandbox.Cmd { c := sh("echo x; exit 3"); c.Stderr = c.Stdout; c.Stdout = b; return c }, 0,
				func(_ context.CancelCauseFunc, sb *sandbox.Sandbox) { sb.Close() }, os.ErrClosed},
		} {
			t.Run(name, func(t *testing.T) {
				leaks(t)
				sb := box(t, sandbox.Options{})
				require.NoError(t, sb.Prepare(t.Context()))
				b := newBlocked()
				t.Cleanup(func() { close(b.closed) })
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				c := tt.cmd(b)
				c.WaitDelay = tt.delay
				began := time.Now()
				var ending sync.WaitGroup
				defer ending.Wait()
				if tt.end != nil {
					ending.Go(func() {
						<-b.blocks
						time.Sleep(300 * time.Millisecond)
						tt.end(cancel, sb)
					})
				}
				res, err := sb.Run(ctx, c)
				require.ErrorIs(t, err, exec.ErrWaitDelay)
				if tt.want != nil {
					require.ErrorIs(t, err, tt.want)
				}
				require.Equal(t, "exit status 3", res.String())
				require.Less(t, time.Since(began), 20*time.Second)
			})
		}
	})
}

// Descriptors are numbered from 3, however many, and there are no others.
func TestExtraFiles(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		var want []string
		c := sh(`i=3; while [ $i -lt 303 ]; do set -- "$@" /dev/fd/$i; i=$((i+1)); done; stat -L -c %d:%i "$@"; ls /proc/self/fd | sort -n | tail -n 2`)
		dir := t.TempDir()
		for i := range 300 {
			f, err := os.Create(filepath.Join(dir, strconv.Itoa(i)))
			require.NoError(t, err)
			defer f.Close()
			c.ExtraFiles = append(c.ExtraFiles, f)
			want = append(want, inode(t, f))
		}
		slices.Reverse(c.ExtraFiles)
		slices.Reverse(want)
		out, err := box(t, sandbox.Options{}).Output(t.Context(), c)
		require.NoError(t, err)
		// ls has one more itself, for the directory.
		require.Equal(t, append(want, "302", "303"), strings.Fields(string(out)))
	})
}

// childEnv tells the test binary that it was started by inChild.
const childEnv = "SANDBOX_TEST_CHILD"

// inChild runs the test once more in a process of its own, for tests that spoil the process. It returns true there.
func inChild(t *testing.T) bool {
	if os.Getenv(childEnv) == t.Name() {
		return true
	}
	exe, err := os.Executable()
	require.NoError(t, err)
	pattern := "^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$"
	cmd := exec.Command(exe, "-test.run="+pattern, "-test.count=1", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"="+t.Name())
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+t.Name()+" ", "%s", out)
	return false
}

// What the embedder has as 0, 1 and 2 can be given in any order: nothing is overwritten before it was passed on.
func TestStdioSwapped(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		if !inChild(t) {
			return
		}
		leaks(t)
		sb := box(t, sandbox.Options{})
		require.NoError(t, sb.Prepare(t.Context()))
		std := [3]*os.File{os.Stdin, os.Stdout, os.Stderr}
		var files, ends [3]*os.File
		for i := range 3 {
			saved, err := unix.FcntlInt(uintptr(i), unix.F_DUPFD_CLOEXEC, 10)
			require.NoError(t, err)
			end, f, err := os.Pipe()
			require.NoError(t, err)
			defer f.Close()
			defer end.Close()
			ends[i] = end
			require.NoError(t, unix.Dup3(int(f.Fd()), i, 0))
			defer func() {
				require.NoError(t, unix.Dup3(saved, i, 0))
				unix.Close(saved)
			}()
			files[i] = f
		}
		c := sh("stat -L -c %d:%i /dev/fd/0 /dev/fd/1 /dev/fd/2 /dev/fd/3 /dev/fd/4 /dev/fd/5")
		c.Stdin, c.Stdout, c.Stderr, c.ExtraFiles = std[2], std[0], std[1], []*os.File{std[2], std[1], std[0]}
		mustExit(t, sb, c)
		a, b, d := inode(t, files[0]), inode(t, files[1]), inode(t, files[2])
		got := make([]byte, 4096)
		n, err := ends[0].Read(got)
		require.NoError(t, err)
		require.Equal(t, []string{d, a, b, d, b, a}, strings.Fields(string(got[:n])))
		for i := range 3 { // and the embedder's own are as before
			require.Equal(t, inode(t, files[i]), inode(t, std[i]))
		}
	})
}

// An embedder that closed its standard streams, so that new descriptors get their numbers, runs commands as any other.
func TestStdioClosed(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		if !inChild(t) {
			return
		}
		st, err := sandbox.Open(t.TempDir())
		require.NoError(t, err)
		sb := sandbox.New(sandbox.Options{Store: st})
		var saved [3]int
		for i := range 3 {
			saved[i], err = unix.FcntlInt(uintptr(i), unix.F_DUPFD_CLOEXEC, 10)
			require.NoError(t, err)
			require.NoError(t, unix.Close(i))
		}
		var out, errs bytes.Buffer
		c := sh("cat; echo err >&2")
		c.Stdin, c.Stdout, c.Stderr = strings.NewReader("in"), &out, &errs
		_, err = sb.Run(t.Context(), c)
		_, err2 := sb.Run(t.Context(), sh("read x; exit 0")) // the null device instead
		err = errors.Join(err, err2, sb.Close(), st.Close())
		for i := range 3 {
			_ = unix.Dup3(saved[i], i, 0)
			unix.Close(saved[i])
		}
		require.NoError(t, err)
		require.Equal(t, "in|err\n", out.String()+"|"+errs.String())
	})
}
