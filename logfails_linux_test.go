package sandbox_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// A disk that is full ends the log, not the command: the Writer gets all, and Wait and the readers say why.
func TestLogDiskFull(t *testing.T) {
	testenv.Root(t)
	leaks(t)
	dir := t.TempDir()
	require.NoError(t, unix.Mount("logs", dir, "tmpfs", 0, "size=512k,mode=700"))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, 0)) })
	st, err := sandbox.Open(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	logFails(t, box(t, sandbox.Options{Store: st}), func() {}, syscall.ENOSPC)
}

// So does a file that can't be made.
func TestLogRotationFails(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		dir := t.TempDir()
		st, err := sandbox.Open(dir)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, st.Close()) })
		logFails(t, box(t, sandbox.Options{Store: st}), func() {
			logs := filepath.Dir(logFiles(t, dir)[0])
			require.NoError(t, os.Rename(logs, logs+"-gone"))
			t.Cleanup(func() { require.NoError(t, os.RemoveAll(logs+"-gone")) })
		}, fs.ErrNotExist)
	})
}

func logFails(t *testing.T, sb *sandbox.Sandbox, spoil func(), want error) {
	t.Helper()
	const count = 20_000
	var out bytes.Buffer
	c := logged("echo up; read x; " + numbered + strconv.Itoa(count))
	c.Log, c.Pipes, c.Stdout = &sandbox.Log{MaxSize: 256 << 10, MaxFiles: 100}, sandbox.PipeStdin, &out
	p, err := sb.Start(t.Context(), c)
	require.NoError(t, err)
	var seen countedLines
	var errs []error
	for e, err := range p.Logs(t.Context(), sandbox.LogQuery{Follow: true}) {
		switch {
		case err != nil:
			errs = append(errs, err)
		case string(e.Data) == "up":
			spoil()
			require.NoError(t, p.Stdin.Close())
		default:
			require.NoError(t, seen.see(e))
		}
	}
	require.Len(t, errs, 1)
	require.ErrorIs(t, errs[0], want)
	require.Less(t, seen.next, int64(count))
	res, err := p.Wait(t.Context())
	require.ErrorIs(t, err, want)
	require.ErrorContains(t, err, "Cmd.Log: ")
	require.NoError(t, res.Err())
	require.Equal(t, count+1, strings.Count(out.String(), "\n"))
}

// playLog is an embedder with logs of commands in two sandboxes.
func playLog(dir string) error {
	d := openStoreDir(dir)
	st, err := sandbox.Open(d.store)
	if err != nil {
		return err
	}
	for _, o := range []sandbox.Options{{Store: st}, {Store: st, Rootfs: d.rootfs}} {
		c := logged("echo up; while :; do echo flood; done")
		c.Log = small(2)
		p, err := sandbox.New(o).Start(context.Background(), c)
		if err != nil {
			return err
		}
		for _, err := range p.Logs(context.Background(), sandbox.LogQuery{Follow: true}) {
			if err != nil {
				return err
			}
			break
		}
		defer runtime.KeepAlive(p)
	}
	fmt.Println("ready")
	select {}
}

// The logs of an embedder that was killed are removed by the next Open, and no earlier; what is whole in them can be read till then.
func TestLogOfKilledEmbedder(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		d := newStoreDir(t)
		e := newEmbedder("log", d.dir, "").start(t)
		require.Equal(t, "ready", e.line(t))
		owners := d.owners(t)
		require.NotEmpty(t, logFiles(t, d.store))
		st, err := sandbox.Open(d.store)
		require.NoError(t, err)
		require.NoError(t, st.Close())
		require.NotEmpty(t, logFiles(t, d.store), "of a living one")
		e.kill()
		files := logFiles(t, d.store)
		require.GreaterOrEqual(t, len(files), 2)
		for _, f := range files {
			text, err := os.ReadFile(f)
			require.NoError(t, err)
			for len(text) > 0 {
				_, n, err := sandbox.CutEntry(text)
				require.NoError(t, err)
				if n == 0 { // torn
					break
				}
				text = text[n:]
			}
			require.Less(t, len(text), 17<<10)
		}
		d.cleanedUp(t, owners)
	})
}

// What is wrong is said at once, and where nothing is kept what to set.
func TestLogInvalid(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		p := ended(t, sb.Start, sh("echo x"))
		requireFields(t, logError(t.Context(), t, p, sandbox.LogQuery{Tail: -1}), "Cmd.Log", "LogQuery.Tail")
		p = ended(t, sb.Start, logged("echo x"))
		requireFields(t, logError(t.Context(), t, p, sandbox.LogQuery{Tail: -1, Follow: true}), "LogQuery.Tail")
		c := sandbox.Command("no such program")
		c.Log = &sandbox.Log{}
		_, err := sb.Start(t.Context(), c)
		require.Error(t, err) // and leaves nothing
	})
}

// Whatever a file has: an entry is whole and valid, or there is none.
func FuzzLogEntry(f *testing.F) {
	f.Add([]byte("2016-10-06T00:17:09.669794202Z stdout P log content\nmore"))
	f.Add([]byte("2016-10-06T00:17:09.669794202Z stderr F \n"))
	f.Add([]byte("2016-10-06T00:17:09.669794202Z stderr F"))
	f.Add([]byte("2016-10-06T00:17:09.669794202Z stdin X a b c\n"))
	f.Add([]byte("2016-10-06T00:17:09.669794202Z stdin F x\n"))
	f.Add(append([]byte("2016-10-06T00:17:09.669794202Z stdout F "), make([]byte, 17<<10)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, n, err := sandbox.CutEntry(b)
		if n == 0 || err != nil {
			if n != 0 || e.Data != nil || err == nil && bytes.IndexByte(b[:min(len(b), 16<<10)], '\n') >= 0 {
				t.Fatalf("%d, %v, %v", n, e, err)
			}
			return
		}
		if b[n-1] != '\n' || bytes.IndexByte(e.Data, '\n') >= 0 || len(e.Data) > 16<<10 || e.Stream != sandbox.Stdout && e.Stream != sandbox.Stderr {
			t.Fatalf("%d, %v", n, e)
		}
		again := sandbox.AppendEntry(nil, e.Time, e.Stream, e.Partial, e.Data)
		same, m, err := sandbox.CutEntry(again)
		if err != nil || m != len(again) || !bytes.Equal(same.Data, e.Data) || !same.Time.Equal(e.Time) || same.Stream != e.Stream || same.Partial != e.Partial {
			t.Fatalf("%q became %q, %v", b[:n], again, err)
		}
	})
}
