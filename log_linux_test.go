package sandbox_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// logged is a Cmd with a log that runs a script.
func logged(script string) *sandbox.Cmd {
	c := sh(script)
	c.Log = &sandbox.Log{}
	return c
}

// small is the smallest Log of these many files.
func small(files int) *sandbox.Log { return &sandbox.Log{MaxSize: 64 << 10, MaxFiles: files} }

// ended runs c to its end, and returns it.
func ended(t testing.TB, start func(context.Context, *sandbox.Cmd) (*sandbox.Process, error), c *sandbox.Cmd) *sandbox.Process {
	t.Helper()
	p, err := start(t.Context(), c)
	require.NoError(t, err)
	_, err = p.Wait(t.Context())
	require.NoError(t, err)
	return p
}

// entries are all that a query yields.
func entries(t testing.TB, p *sandbox.Process, q sandbox.LogQuery) (all []sandbox.LogEntry) {
	t.Helper()
	for e, err := range p.Logs(t.Context(), q) {
		require.NoError(t, err)
		all = append(all, e)
	}
	return all
}

// lines shows entries: the stream, a "+" if partial, the content.
func lines(all []sandbox.LogEntry) (lines []string) {
	for _, e := range all {
		tag := " "
		if e.Partial {
			tag = "+"
		}
		lines = append(lines, string(e.Stream)+tag+string(e.Data))
	}
	return lines
}

// logError is the error of a query that yields no entry.
func logError(ctx context.Context, t testing.TB, p *sandbox.Process, q sandbox.LogQuery) (got error) {
	t.Helper()
	n := 0
	for e, err := range p.Logs(ctx, q) {
		require.Zero(t, e)
		got = err
		n++
	}
	require.Equal(t, 1, n)
	return got
}

// logFiles are the files of all logs of a store.
func logFiles(t testing.TB, dir string) []string {
	files, err := filepath.Glob(filepath.Join(dir, "sandboxes", "*", "logs", "*", "*"))
	require.NoError(t, err)
	return files
}

// written is what was written to a stream, of its entries.
func written(all []sandbox.LogEntry, stream sandbox.Stream) (b []byte) {
	for _, e := range all {
		if e.Stream != stream {
			continue
		}
		if b = append(b, e.Data...); !e.Partial {
			b = append(b, '\n')
		}
	}
	return b
}

// What a command writes is there by lines with their streams and times, whatever its Writers; and where it started.
func TestLog(t *testing.T) {
	everyStart(t, func(t *testing.T, sb *sandbox.Sandbox, start func(context.Context, *sandbox.Cmd) (*sandbox.Process, error)) {
		const script = `echo one; read x; echo two >&2; read x; echo; printf 'three\r\n'; read x; printf end`
		want := []string{"stdout one", "stderr two", "stdout ", "stdout three\r", "stdout+end"}
		var out, errs bytes.Buffer
		for i, w := range []struct{ out, errs io.Writer }{{}, {&out, &errs}, {nil, &errs}} {
			c := logged(script)
			c.Stdout, c.Stderr = w.out, w.errs
			c.Pipes = sandbox.PipeStdin
			began := time.Now()
			p, err := start(t.Context(), c)
			require.NoError(t, err)
			for _, err := range p.Logs(t.Context(), sandbox.LogQuery{Follow: true}) {
				require.NoError(t, err)
				_, _ = io.WriteString(p.Stdin, "\n") // an error: it has ended
			}
			p.Stdin.Close()
			_, err = p.Wait(t.Context())
			require.NoError(t, err)
			all := entries(t, p, sandbox.LogQuery{})
			require.Equal(t, want, lines(all), i)
			last := began
			for _, e := range all {
				require.False(t, e.Time.Before(last) || e.Time.After(time.Now()), "%v after %v", e.Time, last)
				require.Zero(t, e.Lost)
				last = e.Time
			}

			require.Equal(t, want, lines(entries(t, p, sandbox.LogQuery{Follow: true})), "after the end")
			require.Equal(t, want[3:], lines(entries(t, p, sandbox.LogQuery{Tail: 2})))
			require.Equal(t, want, lines(entries(t, p, sandbox.LogQuery{Tail: 200})))
			require.Equal(t, want[1:], lines(entries(t, p, sandbox.LogQuery{Since: all[1].Time})))
			require.Equal(t, want[4:], lines(entries(t, p, sandbox.LogQuery{Since: all[1].Time, Tail: 1})))
			require.Empty(t, entries(t, p, sandbox.LogQuery{Since: last.Add(1), Tail: 3}))
		}
		require.Equal(t, "one\n\nthree\r\nend", out.String())
		require.Equal(t, "two\ntwo\n", errs.String())
	})
}

// One Writer for both streams stays one pipe; a terminal is one by itself; a file is copied to.
func TestLogStreams(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		w, read := pipeFile(t)
		c := logged("for i in 1 2 3; do echo out; echo err >&2; done")
		c.Stdout, c.Stderr = w, w
		p := ended(t, sb.Start, c)
		require.Equal(t, strings.Repeat("out\nerr\n", 3), read())
		require.Equal(t, strings.Repeat("out\nerr\n", 3), string(written(entries(t, p, sandbox.LogQuery{}), sandbox.Stdout)))

		c = logged("yes | head -c 100000")
		c.Stdout = writerFunc(func(b []byte) (int, error) { time.Sleep(20 * time.Millisecond); return len(b), nil })
		require.Len(t, written(entries(t, ended(t, sb.Start, c), sandbox.LogQuery{}), sandbox.Stdout), 100_000, "Wait waits for the log")

		c = onTerminal("stty -echo; echo out; echo err >&2; printf '> '")
		c.Log = &sandbox.Log{}
		p = ended(t, sb.Start, c)
		require.Equal(t, []string{"stdout out\r", "stdout err\r", "stdout+> "}, lines(entries(t, p, sandbox.LogQuery{})))
	})
}

// Any bytes come back as they were, in pieces of at most 16 KiB, however they were written.
func TestLogBinary(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		const piece = 16 << 10
		// A newline that comes late belongs to the piece before it.
		late := entries(t, ended(t, sb.Start, logged("printf %16384s; sleep 0.03; echo; printf %16385s; sleep 0.03; echo")), sandbox.LogQuery{})
		require.Len(t, late, 3)
		require.Equal(t, []bool{false, true, false}, []bool{late[0].Partial, late[1].Partial, late[2].Partial})
		random := make([]byte, 1<<20)
		for i := range random {
			random[i] = byte(rand.Uint32())
		}
		for i := 100_000; i < 500_000; i++ {
			random[i] |= 0x20 // no newline
		}
		for name, text := range map[string][]byte{
			"nothing": nil, "random": random, "newlines": bytes.Repeat([]byte("\n"), 10_000), "like an entry": []byte("\n2016-10-06T00:17:09.669794202Z stderr F x\n"),
			"a piece": append(bytes.Repeat([]byte("x"), piece), '\n'), "more": append(bytes.Repeat([]byte("x"), piece+1), '\n'), "two, no end": bytes.Repeat([]byte("x"), 2*piece),
		} {
			for _, read := range []string{"cat", "dd bs=1000 status=none"} {
				c := logged(read + " >&2")
				c.Stdin = bytes.NewReader(text)
				all := entries(t, ended(t, sb.Start, c), sandbox.LogQuery{})
				require.True(t, bytes.Equal(text, written(all, sandbox.Stderr)), name)
				require.Empty(t, written(all, sandbox.Stdout))
				for i, e := range all {
					require.LessOrEqual(t, len(e.Data), piece)
					require.True(t, !e.Partial || len(e.Data) == piece || i == len(all)-1, name)
				}
				if n, ok := map[string]int{"a piece": 1, "more": 2, "two, no end": 2}[name]; ok {
					require.Len(t, all, n, name)
				}
			}
		}
	})
}

// numbered writes lines with growing numbers, and reads them back: none is torn, missing or twice but for those that it says.
const numbered = `seq -f '%08.0f 0123456789012345678901234567890123456789' `

type countedLines struct{ next, lost int64 }

func (n *countedLines) see(e sandbox.LogEntry) error {
	n.next += e.Lost
	n.lost += e.Lost
	if want := fmt.Sprintf("%08d 0123456789012345678901234567890123456789", n.next+1); string(e.Data) != want || e.Partial {
		return fmt.Errorf("%q, want %q", e.Data, want)
	}
	n.next++
	return nil
}

// reaches waits until the last line of the log begins so.
func reaches(t testing.TB, p *sandbox.Process, line string) {
	t.Helper()
	require.Eventually(t, func() bool {
		var last string
		for e := range p.Logs(t.Context(), sandbox.LogQuery{Tail: 1}) { // an error: it was overtaken
			last = string(e.Data)
		}
		return strings.HasPrefix(last, line)
	}, 20*time.Second, time.Millisecond)
}

// There never are more files than the Log says, nor larger ones, and they have the last lines.
func TestLogRotation(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		dir := t.TempDir()
		st, err := sandbox.Open(dir)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, st.Close()) })
		sb := box(t, sandbox.Options{Store: st})
		const count = 20_000 // 1.8 MiB in files
		for _, most := range []int{1, 2, 5} {
			c := logged(numbered + strconv.Itoa(count))
			c.Log = small(most)
			p, err := sb.Start(t.Context(), c)
			require.NoError(t, err)
			for end := false; !end; {
				select {
				case <-p.Done():
					end = true
				default:
				}
				files := logFiles(t, dir)
				require.LessOrEqual(t, len(files), most)
				for _, f := range files {
					if info, err := os.Stat(f); err == nil {
						require.LessOrEqual(t, info.Size(), int64(64<<10))
						require.Zero(t, info.Mode()&0o077)
					}
				}
			}
			require.Len(t, logFiles(t, dir), most)
			all := entries(t, p, sandbox.LogQuery{})
			require.Greater(t, len(all)*91, (most-1)*64<<10-100*most)
			seen := countedLines{next: int64(count - len(all))}
			for _, e := range all {
				require.NoError(t, seen.see(e))
			}
			require.Equal(t, lines(all[len(all)-10:]), lines(entries(t, p, sandbox.LogQuery{Tail: 10})))
			require.Equal(t, lines(all), lines(entries(t, p, sandbox.LogQuery{Tail: count})))
			require.NoError(t, os.RemoveAll(filepath.Dir(logFiles(t, dir)[0]))) // the next one's are counted
		}
	})
}

// Readers that follow have all until the end, several at once, from the start and later; one that is slow keeps nobody waiting
// and is told what it missed.
func TestLogFollow(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		c := logged("head -c 5242880 /dev/urandom | tee /dev/stderr | base64 -w 60")
		c.Log.MaxSize = 32 << 20
		outs, errs := sha256.New(), sha256.New()
		c.Stdout, c.Stderr = outs, errs
		p, err := sb.Start(t.Context(), c)
		require.NoError(t, err)
		var readers sync.WaitGroup
		for i := range 4 {
			readers.Go(func() {
				time.Sleep(time.Duration(i) * 10 * time.Millisecond)
				out, err := sha256.New(), sha256.New()
				for e, fault := range p.Logs(t.Context(), sandbox.LogQuery{Follow: true}) {
					if fault != nil || e.Lost > 0 {
						t.Error(fault, e.Lost)
						return
					}
					if !e.Partial {
						e.Data = append(e.Data, '\n')
					}
					if e.Stream == sandbox.Stdout {
						out.Write(e.Data)
					} else {
						err.Write(e.Data)
					}
				}
				<-p.Done()
				if !bytes.Equal(out.Sum(nil), outs.Sum(nil)) || !bytes.Equal(err.Sum(nil), errs.Sum(nil)) {
					t.Error("not what the Writers got")
				}
			})
		}
		readers.Wait()
		res, err := p.Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, res.Err())
	})
}

func TestLogOvertaken(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		const count = 40_000
		c := logged(numbered + strconv.Itoa(count) + "; exec sleep 1000")
		c.Log = small(3)
		p, err := sb.Start(t.Context(), c)
		require.NoError(t, err)
		all := make(chan struct{})
		var lost atomic.Int64
		var readers sync.WaitGroup
		for i := range 3 {
			readers.Go(func() {
				var seen countedLines
				for e, err := range p.Logs(t.Context(), sandbox.LogQuery{Follow: true}) {
					if err == nil {
						err = seen.see(e)
					}
					if err != nil {
						t.Errorf("reader %d: %v", i, err)
						return
					}
					if i == 0 && seen.next == 10 {
						<-all // it is as slow as can be
					}
					if seen.next == count {
						break
					}
				}
				if i == 0 {
					lost.Store(seen.lost)
				}
			})
		}
		reaches(t, p, fmt.Sprintf("%08d", count)) // though the slow reader reads nothing
		close(all)
		readers.Wait()
		require.Greater(t, lost.Load(), int64(count/2), "the control: nobody was overtaken")
		require.NoError(t, p.Kill())
		_, err = p.Wait(t.Context())
		require.NoError(t, err)
	})
}

// A reader whose last entries were removed hears of it, though there is no entry that could say so.
func TestLogLastLost(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		c := logged(numbered + "1200; read x; " + numbered + "5000; exec sleep 1000")
		c.Log, c.Pipes = small(2), sandbox.PipeStdin
		p, err := sb.Start(t.Context(), c)
		require.NoError(t, err)
		reaches(t, p, "00001200")
		var got error
		n := 0
		for _, err := range p.Logs(t.Context(), sandbox.LogQuery{}) {
			if n++; n == 1 {
				require.NoError(t, p.Stdin.Close())
				reaches(t, p, "00005000")
			}
			got = err
		}
		require.ErrorContains(t, got, "removed before they were read")
		require.Less(t, n, 1200)
		require.NoError(t, p.Kill())
		_, err = p.Wait(t.Context())
		require.NoError(t, err)
	})
}

// openLogs is how many files of logs this program has open.
func openLogs(t testing.TB, dir string) (n int) {
	all, err := filepath.Glob("/proc/self/fd/*")
	require.NoError(t, err)
	for _, name := range all {
		if to, _ := os.Readlink(name); strings.HasPrefix(to, dir) && strings.Contains(to, "/logs/") {
			n++
		}
	}
	return n
}

// The end of the context, of the loop and of the sandbox end a reader that waits.
func TestLogFollowEnds(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		dir := t.TempDir()
		st, err := sandbox.Open(dir)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, st.Close()) })
		for _, o := range []sandbox.Options{{Store: st}, {Store: st, Rootfs: rootWith(t, map[string]string{"sh": "/bin/busybox"})}} {
			sb := box(t, o)
			c := logged("echo up; read x")
			c.Pipes = sandbox.PipeStdin
			p, err := sb.Start(t.Context(), c)
			require.NoError(t, err)
			defer p.Stdin.Close()
			for e, err := range p.Logs(t.Context(), sandbox.LogQuery{Follow: true}) {
				require.NoError(t, err)
				require.Equal(t, "up", string(e.Data))
				break
			}
			require.Equal(t, 1, openLogs(t, dir), "what was read is open")
			cause := errors.New("enough")
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			for e, err := range p.Logs(ctx, sandbox.LogQuery{Follow: true}) {
				if e.Data != nil {
					time.AfterFunc(10*time.Millisecond, func() { cancel(cause) })
					continue
				}
				require.ErrorIs(t, err, cause)
			}
			require.ErrorIs(t, logError(ctx, t, p, sandbox.LogQuery{}), cause)
			other := ended(t, sb.Start, logged("echo other"))
			require.Len(t, logFiles(t, dir), 2)
			var closing sync.WaitGroup
			for e, err := range p.Logs(t.Context(), sandbox.LogQuery{Follow: true}) {
				if e.Data != nil {
					closing.Go(func() { time.Sleep(10 * time.Millisecond); sb.Close() })
					continue
				}
				require.ErrorIs(t, err, os.ErrClosed)
			}
			closing.Wait()
			left, err := os.ReadDir(filepath.Join(dir, "sandboxes"))
			require.NoError(t, err)
			require.Empty(t, left)
			for _, p := range []*sandbox.Process{p, other} {
				require.ErrorIs(t, logError(t.Context(), t, p, sandbox.LogQuery{}), os.ErrClosed)
			}
			_, err = p.Wait(t.Context())
			require.ErrorIs(t, err, os.ErrClosed)
		}
	})
}

// To close a sandbox whose commands write as fast as they can leaves no file.
func TestLogClosedInFlood(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		dir := t.TempDir()
		st, err := sandbox.Open(dir)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, st.Close()) })
		for range 5 {
			sb := sandbox.New(sandbox.Options{Store: st})
			for range 2 {
				c := sandbox.Command("yes")
				c.Log = small(1)
				_, err := sb.Start(t.Context(), c)
				require.NoError(t, err)
			}
			time.Sleep(rand.N(20 * time.Millisecond))
			require.NoError(t, sb.Close())
			left, err := os.ReadDir(filepath.Join(dir, "sandboxes"))
			require.NoError(t, err)
			require.Empty(t, left)
		}
	})
}

// A log that nobody can read any more takes no room.
func TestLogDropped(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		dir := t.TempDir()
		st, err := sandbox.Open(dir)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, st.Close()) })
		sb := box(t, sandbox.Options{Store: st})
		kept := ended(t, sb.Start, logged("echo kept"))
		for range 3 {
			mustExit(t, sb, logged("echo gone"))
		}
		require.Eventually(t, func() bool { runtime.GC(); return len(logFiles(t, dir)) == 1 }, 10*time.Second, 10*time.Millisecond)
		require.Equal(t, []string{"stdout kept"}, lines(entries(t, kept, sandbox.LogQuery{})))
	})
}

// Limits.Output is of what is logged, too, and exact.
func TestLogLimitsOutput(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		for _, drop := range []bool{false, true} {
			c := logged("yes 012345678 | head -c 300000")
			c.Limits.Output, c.DropOutput = 1005, drop
			p := ended(t, sb.Start, c)
			res, err := p.Wait(t.Context())
			require.NoError(t, err)
			require.Equal(t, drop, res.Status == sandbox.Exited, "%v", res)
			require.Len(t, res.Hit, 1)
			all := entries(t, p, sandbox.LogQuery{})
			require.Len(t, written(all, sandbox.Stdout), 1005)
			require.Len(t, all, 101)
		}
	})
}
