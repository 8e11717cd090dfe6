//go:build linux

package sandbox_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

const writeAndExit = `
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
	size_t n = atol(argv[1]);
	char *b = malloc(n);
	memset(b, 'x', n);
	for (size_t done = 0; done < n;) {
		ssize_t w = write(1, b + done, n - done);
		if (w < 0) _exit(1);
		done += w;
	}
	_exit(0);
}`

// What was written before the exit is there, all of it: no output is lost or cut.
func TestOutputIsComplete(t *testing.T) {
	program := testenv.C(t, writeAndExit)
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{Rootfs: rootWith(t, map[string]string{"w": program})})
		require.NoError(t, sb.Prepare(t.Context()))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for i := range 50 {
					n := 1<<20 - i%3*4095
					out, err := sb.Output(t.Context(), sandbox.Command("/bin/w", strconv.Itoa(n)))
					if err != nil || len(out) != n {
						t.Errorf("%d bytes, %v, want %d", len(out), err, n)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}

// raceEnabled says whether the race detector slows us down.
func raceEnabled() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// A gibibyte through stdin to stdout comes back as it was.
func TestStdioIntact(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		size := int64(1 << 30)
		if raceEnabled() {
			size >>= 2
		}
		in, out := sha256.New(), sha256.New()
		c := sandbox.Command("cat")
		c.Stdin, c.Stdout = io.TeeReader(io.LimitReader(&noise{}, size), in), hashOnly{out}
		mustExit(t, box(t, sandbox.Options{}), c)
		require.Equal(t, in.Sum(nil), out.Sum(nil))
	})
}

// noise is a cheap stream that repeats no block.
type noise struct{ n uint64 }

func (r *noise) Read(b []byte) (int, error) {
	for i := 0; i+8 <= len(b); i += 8 {
		r.n = r.n*6364136223846793005 + 1442695040888963407
		*(*[8]byte)(b[i:]) = [8]byte{byte(r.n >> 56), byte(r.n >> 48), byte(r.n >> 40), byte(r.n >> 32), byte(r.n >> 24), byte(r.n >> 16), byte(r.n >> 8), byte(r.n)}
	}
	return len(b) &^ 7, nil
}

type hashOnly struct{ h hash.Hash }

func (h hashOnly) Write(b []byte) (int, error) { return h.h.Write(b) }

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// A command need not read what it is given, all of it or any.
func TestStdinUnread(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		for _, script := range []string{"true", "head -c 100000 >/dev/null", "exec <&-; sleep 0.05"} {
			c := sh(script)
			c.Stdin = zeros{}
			mustExit(t, sb, c)
		}
	})
}

type failing struct {
	after int
	err   error
}

func (f *failing) Write(b []byte) (int, error) {
	if f.after -= len(b); f.after < 0 {
		return 0, f.err
	}
	return len(b), nil
}

func (f *failing) Read(b []byte) (int, error) {
	if f.after--; f.after < 0 {
		return 0, f.err
	}
	return copy(b, "x"), nil
}

// A Reader or Writer that fails is reported beside the Result. The command sees the end of its stream.
func TestStreamError(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		broken := errors.New("disk full")
		c := sh("trap '' PIPE; while echo x; do :; done 2>/dev/null; exit 7")
		c.Stdout = &failing{1000, broken}
		res, err := sb.Run(t.Context(), c)
		require.ErrorIs(t, err, broken)
		require.Equal(t, "exit status 7", res.String())

		c = sh("cat >/dev/null; exit 8")
		c.Stdin = &failing{10, broken}
		res, err = sb.Run(t.Context(), c)
		require.ErrorIs(t, err, broken)
		require.Equal(t, "exit status 8", res.String())
	})
}

// counter counts, and keeps nothing.
type counter struct{ n atomic.Int64 }

func (c *counter) Write(b []byte) (int, error) { c.n.Add(int64(len(b))); return len(b), nil }

// A flood without a newline costs the embedder no memory.
func TestOutputFlood(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		require.NoError(t, sb.Prepare(t.Context()))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var out, errs counter
		c := sh("head -c 256M /dev/zero >&2 & head -c 256M /dev/zero; wait")
		c.Stdout, c.Stderr = &out, &errs
		mustExit(t, sb, c)
		runtime.ReadMemStats(&after)
		require.EqualValues(t, 512<<20, out.n.Load()+errs.n.Load())
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20))
	})
}

// One Cmd is run by many at the same time: it is never modified.
func TestCmdReuse(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		c := sh("echo $A$B; echo $A >&2; exit 0")
		c.Env = []string{"A=1", "B=2"}
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				out, err := sb.Output(t.Context(), c)
				if err != nil || string(out) != "12\n" {
					t.Errorf("%q, %v", out, err)
				}
			})
		}
		wg.Wait()
		require.Nil(t, c.Stdout)
	})
}

// Output's error has the end of what went to standard error.
func TestOutputStderr(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		out, err := sb.Output(t.Context(), sh(`echo out; head -c 100000 /dev/zero | tr '\0' . >&2; echo "no such thing" >&2; exit 4`))
		require.Equal(t, "out\n", string(out))
		var e *sandbox.ExitError
		require.ErrorAs(t, err, &e)
		require.Equal(t, 4, e.ExitCode)
		require.Len(t, e.Stderr, 16<<10)
		require.True(t, strings.HasSuffix(string(e.Stderr), "....no such thing\n"))
		require.Contains(t, err.Error(), "exit status 4")
		require.Contains(t, err.Error(), `no such thing"`)

		var errs bytes.Buffer
		c := sh("echo mine >&2; exit 4")
		c.Stderr = &errs
		_, err = sb.Output(t.Context(), c)
		require.ErrorAs(t, err, &e)
		require.Empty(t, e.Stderr)
		require.Equal(t, "mine\n", errs.String())

		c.Stdout = &errs
		_, err = sb.Output(t.Context(), c)
		requireFields(t, err, "Cmd.Stdout")
	})
}

// Wait may be called by many, and its context bounds the wait alone.
func TestProcessWait(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		p, err := sb.Start(t.Context(), sh("sleep 100"))
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		res, err := p.Wait(ctx)
		require.Nil(t, res)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, p.Signal(syscall.Signal(0)))
		require.NoError(t, p.Kill())
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				res, err := p.Wait(t.Context())
				if err != nil || res.Status != sandbox.Killed {
					t.Errorf("%v, %v", res, err)
				}
			})
		}
		wg.Wait()
		<-p.Done()
		require.ErrorIs(t, p.Kill(), os.ErrProcessDone)
		require.ErrorIs(t, p.Signal(syscall.SIGTERM), os.ErrProcessDone)
	})
}
