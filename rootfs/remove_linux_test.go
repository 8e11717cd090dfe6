package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// deep makes a path of n directories of the name, which no single system call could use, with a file at its end.
func deep(t testing.TB, dir, name string, n int) {
	t.Helper()
	at, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	require.NoError(t, err)
	for range n {
		require.NoError(t, unix.Mkdirat(at, name, 0o700))
		next, err := unix.Openat(at, name, unix.O_PATH|unix.O_DIRECTORY, 0)
		require.NoError(t, err)
		unix.Close(at)
		at = next
	}
	fd, err := unix.Openat(at, "file", unix.O_CREAT|unix.O_WRONLY, 0o600)
	require.NoError(t, err)
	unix.Close(fd)
	unix.Close(at)
}

func TestRemove(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		testenv.Leaks(t)
		outside := write(t, t.TempDir(), map[string]string{"keep/file": "1"})
		tests := map[string]func(t *testing.T, dir string){
			"empty":     func(*testing.T, string) {},
			"long path": func(t *testing.T, dir string) { deep(t, dir, strings.Repeat("x", 200), 100) },
			"deep path": func(t *testing.T, dir string) { deep(t, dir, "d", 3*maxDepth+7) },
			"around the depth": func(t *testing.T, dir string) {
				for i := range 5 {
					deep(t, dir, fmt.Sprint("d", i), maxDepth-2+i)
				}
			},
			"closed directories": func(t *testing.T, dir string) {
				write(t, dir, map[string]string{"a/b/c": "", "a/d": ""})
				require.NoError(t, errors.Join(os.Chmod(dir+"/a/b", 0), os.Chmod(dir+"/a", 0), os.Chmod(dir, 0)))
			},
			"links": func(t *testing.T, dir string) {
				require.NoError(t, os.Symlink(outside+"/keep", dir+"/dir"))
				require.NoError(t, os.Symlink(outside+"/keep/file", dir+"/file"))
				require.NoError(t, os.Symlink("dir", dir+"/chain"))
				require.NoError(t, os.Symlink("loop", dir+"/loop"))
				require.NoError(t, os.Symlink("/", dir+"/root"))
				require.NoError(t, os.Link(outside+"/keep/file", dir+"/hard"))
			},
			"special": func(t *testing.T, dir string) {
				require.NoError(t, unix.Mkfifo(dir+"/fifo", 0))
				require.NoError(t, unix.Mknod(dir+"/socket", unix.S_IFSOCK, 0))
				write(t, dir, map[string]string{"whiteout#": "", "odd \n\xff*": ""})
			},
			"many entries": func(t *testing.T, dir string) {
				for i := range 3000 {
					write(t, dir, map[string]string{fmt.Sprintf("%d/", i): ""})
				}
			},
		}
		for name, prepare := range tests {
			t.Run(name, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "upper")
				require.NoError(t, os.Mkdir(dir, 0o755))
				prepare(t, dir)
				require.NoError(t, Remove(t.Context(), dir))
				_, err := os.Lstat(dir)
				require.ErrorIs(t, err, fs.ErrNotExist)
				require.NoError(t, Remove(t.Context(), dir), "again")
				require.FileExists(t, outside+"/keep/file")
			})
		}
	})
}

func TestRemoveInvalid(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink(dir, link))
	for _, path := range []string{"", "rel", "/", "//", "/../", "/a\x00", file, link} {
		t.Run(path, func(t *testing.T) {
			require.ErrorIs(t, Remove(t.Context(), path), fs.ErrInvalid)
		})
	}
	require.FileExists(t, file)
	require.NoError(t, Remove(t.Context(), filepath.Join(dir, "none")))
	require.NoError(t, Remove(t.Context(), filepath.Join(dir, "none/below")))
}

// TestRemoveMount: nothing on another mount is touched, the rest is removed.
func TestRemoveMount(t *testing.T) {
	testenv.Root(t)
	testenv.Leaks(t)
	outside := write(t, t.TempDir(), map[string]string{"keep": "1"})
	dir := write(t, t.TempDir()+"/upper", map[string]string{"a/mount/": "", "a/x": "", "b/c": ""})
	deepest := dir + strings.Repeat("/d", maxDepth+3)
	require.NoError(t, os.MkdirAll(deepest, 0o755))
	t.Cleanup(func() { // where the test stopped half way; before its directory is removed
		for _, at := range []string{dir + "/a/mount", deepest, dir} {
			_ = unix.Unmount(at, unix.MNT_DETACH)
		}
	})
	for _, at := range []string{dir + "/a/mount", deepest} {
		require.NoError(t, unix.Mount(outside, at, "", unix.MS_BIND, ""))
	}
	require.ErrorIs(t, Remove(t.Context(), dir), unix.EBUSY)
	require.FileExists(t, outside+"/keep")
	require.NoDirExists(t, dir+"/b")
	require.NoFileExists(t, dir+"/a/x")
	require.NoError(t, unix.Unmount(dir+"/a/mount", 0))
	require.ErrorIs(t, Remove(t.Context(), dir), unix.EBUSY, "one is left")
	mounts, err := filepath.Glob(dir + "/.removed-*" + strings.Repeat("/d", 2))
	require.NoError(t, err)
	require.Len(t, mounts, 1)
	require.NoError(t, unix.Unmount(mounts[0], 0))
	require.NoError(t, unix.Mount(outside, dir, "", unix.MS_BIND, ""))
	require.ErrorIs(t, Remove(t.Context(), dir), unix.EBUSY, "dir itself")
	require.NoError(t, unix.Unmount(dir, 0))
	require.NoError(t, Remove(t.Context(), dir))
	require.FileExists(t, outside+"/keep")
}

// TestRemoveFlags: chattr +i and +a, on files, on directories and on the tree's root.
func TestRemoveFlags(t *testing.T) {
	testenv.Root(t)
	testenv.Leaks(t)
	dir := write(t, t.TempDir()+"/upper", map[string]string{"i": "", "a": "", "di/x": "", "di/sub/y": "", "da/x": "", "di/z/": "", "empty/": ""})
	deepest := dir + strings.Repeat("/d", maxDepth+3)
	require.NoError(t, os.MkdirAll(deepest, 0o755))
	for path, flag := range map[string]int32{
		"i": 0x10, "a": 0x20, "di/x": 0x30, "di/sub": 0x10, "di": 0x10, "da": 0x20, "empty": 0x10, "": 0x10,
		strings.Repeat("/d", maxDepth): 0x10, strings.Repeat("/d", maxDepth+1): 0x10, strings.Repeat("/d", maxDepth+2): 0x20,
	} {
		f, err := os.Open(filepath.Join(dir, path))
		require.NoError(t, err)
		require.Zero(t, ioctl(int(f.Fd()), unix.FS_IOC_SETFLAGS, &flag))
		require.NoError(t, f.Close())
	}
	require.ErrorIs(t, os.Remove(dir+"/i"), unix.EPERM, "control")
	require.NoError(t, Remove(t.Context(), dir))
	require.NoDirExists(t, dir)
}

// TestRemoveOverlay removes what overlayfs leaves: a work directory of mode 000, whiteouts, the mark of a volatile mount.
func TestRemoveOverlay(t *testing.T) {
	testenv.Root(t)
	testenv.Leaks(t)
	dir := t.TempDir()
	o := layered(t, dir)
	require.NoError(t, o.MakeUpper(t.Context()))
	f, err := o.Open(t.Context())
	require.NoError(t, err)
	change(t, through(f))
	require.NoError(t, f.Close())
	require.Zero(t, lstat(t, o.Work+"/work").Mode&0o777)
	for _, path := range []string{o.Upper, o.Work} {
		require.NoError(t, Remove(t.Context(), path))
		require.NoDirExists(t, path)
	}
}

// TestRemoveLarge: the memory does not grow with the tree.
func TestRemoveLarge(t *testing.T) {
	testenv.Root(t)
	dir := newTmpfsDir(t) + "/upper"
	require.NoError(t, os.Mkdir(dir, 0o755))
	at, err := os.Open(dir)
	require.NoError(t, err)
	defer at.Close()
	for i := range 100_000 {
		require.NoError(t, unix.Mknodat(int(at.Fd()), fmt.Sprint("file", i), unix.S_IFREG, 0))
	}
	deep(t, dir, "d", 10_000) // 20 kB
	var peak uint64
	ctx := &watcher{Context: t.Context(), each: 1000, look: func() {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		peak = max(peak, m.HeapAlloc)
	}}
	ctx.look()
	start := peak
	require.NoError(t, Remove(ctx, dir))
	require.Greater(t, ctx.n, 100_000)
	require.Less(t, peak-start, uint64(6<<20))
	t.Logf("%d looks at the context, %d KiB", ctx.n, (peak-start)>>10)
}

// watcher is a context that looks around when it is asked.
type watcher struct {
	context.Context
	n, each int
	look    func()
}

func (w *watcher) Err() error {
	if w.n++; w.n%w.each == 0 {
		w.look()
	}
	return w.Context.Err()
}

func TestRemoveContext(t *testing.T) {
	testenv.Leaks(t)
	dir := filepath.Join(t.TempDir(), "upper")
	for i := range 10 {
		write(t, dir, map[string]string{fmt.Sprintf("%d/%d", i, i): ""})
	}
	cause := errors.New("enough")
	for n := 1; ; n++ {
		ctx, cancel := context.WithCancelCause(t.Context())
		looks := &watcher{Context: ctx, each: n}
		looks.look = func() { cancel(cause) }
		err := Remove(looks, dir)
		cancel(nil)
		if err == nil {
			require.Greater(t, n, 5)
			break
		}
		require.ErrorIs(t, err, cause)
		require.DirExists(t, dir)
	}
	require.NoDirExists(t, dir)
}

// TestRemoveRace swaps a directory for a symbolic link while the tree is removed.
func TestRemoveRace(t *testing.T) {
	testenv.Leaks(t)
	outside := write(t, t.TempDir(), map[string]string{"keep": "1", "dir/keep": "1"})
	for range 30 {
		base := t.TempDir()
		dir := write(t, base+"/upper", nil)
		for i := range 20 {
			write(t, dir, map[string]string{fmt.Sprintf("%d/a", i): "", fmt.Sprintf("%d/b", i): ""})
		}
		link := filepath.Join(base, "link")
		require.NoError(t, os.Symlink(outside, link))
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range 20 {
				for range 10 {
					_ = unix.Renameat2(unix.AT_FDCWD, fmt.Sprintf("%s/%d", dir, i), unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
				}
			}
		}()
		_ = Remove(t.Context(), dir) // may lose, but not leave the tree
		<-done
		require.FileExists(t, outside+"/keep")
		require.FileExists(t, outside+"/dir/keep")
		require.NoError(t, Remove(t.Context(), dir))
	}
}
