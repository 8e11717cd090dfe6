package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// newRoot makes a Root of a new directory; as root, one of a user namespace.
func newRoot(t testing.TB) (*Root, string) {
	dir := filepath.Join(t.TempDir(), "tree")
	require.NoError(t, os.Mkdir(dir, 0o755))
	top, err := os.Open(dir)
	require.NoError(t, err)
	t.Cleanup(func() { top.Close() })
	if os.Geteuid() != 0 {
		return NewRoot(top, nil, os.Getuid(), os.Getgid()), dir
	}
	require.NoError(t, os.Chown(dir, firstID, firstID))
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	return NewRoot(top, newUserNS(t, firstID), 0, 0), dir
}

// files is what Root and os.Root have in common.
type files interface {
	OpenFile(string, int, fs.FileMode) (*os.File, error)
	Create(string) (*os.File, error)
	ReadFile(string) ([]byte, error)
	WriteFile(string, []byte, fs.FileMode) error
	Stat(string) (fs.FileInfo, error)
	Lstat(string) (fs.FileInfo, error)
	Readlink(string) (string, error)
	Mkdir(string, fs.FileMode) error
	MkdirAll(string, fs.FileMode) error
	Remove(string) error
	Rename(string, string) error
	Link(string, string) error
	Symlink(string, string) error
	Chmod(string, fs.FileMode) error
	Chown(string, int, int) error
	Lchown(string, int, int) error
	Chtimes(string, time.Time, time.Time) error
	FS() fs.FS
}

// What both do to a tree, and how it ends.
func script(f files) (log []string) {
	note := func(what string, err error) {
		var e unix.Errno
		if errors.As(err, &e) {
			err = e
		}
		log = append(log, fmt.Sprint(what, ": ", err))
	}
	note("mkdir", f.Mkdir("a", 0o751))
	note("mkdir again", f.Mkdir("a", 0o755))
	note("mkdir all", f.MkdirAll("a/b/c", 0o700))
	note("mkdir all again", f.MkdirAll("a/b/c", 0o755))
	note("write", f.WriteFile("a/f", []byte("one\n"), 0o640))
	note("mkdir all over a file", f.MkdirAll("a/f/x", 0o755))
	note("write to no directory", f.WriteFile("none/f", nil, 0o644))
	_, err := f.OpenFile("a/f", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	note("exclusive", err)
	file, err := f.OpenFile("a/f", os.O_APPEND|os.O_WRONLY, 0)
	note("append", err)
	if err == nil {
		_, err = file.WriteString("two\n")
		note("appended", errors.Join(err, file.Close()))
	}
	b, err := f.ReadFile("a/f")
	note("read "+string(b), err)
	file, err = f.Create("a/g")
	note("create", err)
	if err == nil {
		note("close", file.Close())
	}
	note("chmod", f.Chmod("a/g", 0o4755))
	note("chmod of a directory", f.Chmod("a/b", 0o1777))
	note("symlink", f.Symlink("f", "a/l"))
	note("symlink to nowhere", f.Symlink("nowhere", "a/n"))
	text, err := f.Readlink("a/l")
	note("readlink "+text, err)
	_, err = f.Readlink("a/f")
	note("readlink of a file", err)
	note("chown", f.Chown("a/l", -1, -1))
	note("lchown", f.Lchown("a/n", -1, -1))
	note("link", f.Link("a/f", "a/h"))
	note("link again", f.Link("a/f", "a/h"))
	note("times", f.Chtimes("a/f", time.Time{}, time.Unix(1e9, 123456789)))
	note("rename", f.Rename("a/g", "a/b/g2"))
	note("rename of nothing", f.Rename("a/g", "a/b/g2"))
	note("remove full", f.Remove("a/b"))
	note("remove", f.Remove("a/b/c"))
	note("remove again", f.Remove("a/b/c"))
	for _, name := range []string{".", "a", "a/b", "a/f", "a/l", "a/n", "a/h", "a/b/g2", "a/f/x", "none"} {
		for what, stat := range map[string]func(string) (fs.FileInfo, error){"stat": f.Stat, "lstat": f.Lstat} {
			info, err := stat(name)
			note(what+" "+name, err)
			if err == nil {
				log[len(log)-1] += fmt.Sprint(" ", info.Name(), " ", info.Mode(), info.IsDir())
			}
			if err == nil && info.Mode().IsRegular() {
				log[len(log)-1] += fmt.Sprint(" ", info.Size())
			}
		}
	}
	info, err := f.Stat("a/f")
	note("times of it", err)
	if err == nil {
		log = append(log, info.ModTime().UTC().String())
	}
	err = fs.WalkDir(f.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		log = append(log, fmt.Sprint(path, d, err))
		return nil
	})
	note("walk", err)
	return log
}

// A Root does what os.Root does.
func TestRootAsOSRoot(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		testenv.Leaks(t)
		old := unix.Umask(0)
		defer unix.Umask(old)
		plain := t.TempDir()
		require.NoError(t, os.Chmod(plain, 0o755))
		want, err := os.OpenRoot(plain)
		require.NoError(t, err)
		defer want.Close()
		root, dir := newRoot(t)
		log := script(want)
		require.ElementsMatch(t, log, script(root))
		require.GreaterOrEqual(t, len(log), 60)
		if os.Geteuid() == 0 {
			var st unix.Stat_t
			require.NoError(t, unix.Lstat(dir+"/a/f", &st))
			require.Equal(t, []uint32{firstID, firstID}, []uint32{st.Uid, st.Gid})
			info, err := root.Stat("a/f")
			require.NoError(t, err)
			require.Zero(t, info.Sys().(*unix.Statx_t).Uid)
			require.NoError(t, root.Chown("a/f", 7, 8))
			require.NoError(t, unix.Lstat(dir+"/a/f", &st))
			require.Equal(t, []uint32{firstID + 7, firstID + 8}, []uint32{st.Uid, st.Gid})
			require.ErrorIs(t, root.Chown("a/f", 70000, 0), unix.EINVAL, "an id that is not mapped")
		}
	})
}

func TestRootFS(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		testenv.Leaks(t)
		root, _ := newRoot(t)
		require.NoError(t, root.MkdirAll("etc/deep/er", 0o755))
		require.NoError(t, root.WriteFile("etc/passwd", []byte("x"), 0o644))
		require.NoError(t, root.WriteFile("etc/deep/er/f", bytes.Repeat([]byte("y"), 5000), 0o644))
		require.NoError(t, root.Symlink("deep", "etc/link"))
		require.NoError(t, fstest.TestFS(root.FS(), "etc/passwd", "etc/deep/er/f", "etc/link"))
		require.NoError(t, os.CopyFS(filepath.Join(t.TempDir(), "copy"), root.FS()))
		_, err := root.FS().(fs.ReadLinkFS).ReadLink("../etc")
		require.ErrorIs(t, err, fs.ErrInvalid)
	})
}

// What would keep a reader or writer waiting is not opened.
func TestRootNeverWaits(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		testenv.Leaks(t)
		root, dir := newRoot(t)
		require.NoError(t, unix.Mkfifo(dir+"/fifo", 0o666))
		require.NoError(t, unix.Mknod(dir+"/socket", unix.S_IFSOCK|0o666, 0))
		require.NoError(t, root.Symlink("fifo", "link"))
		names := []string{"fifo", "socket", "link"}
		if os.Geteuid() == 0 {
			require.NoError(t, unix.Mknod(dir+"/device", unix.S_IFCHR|0o666, int(unix.Mkdev(5, 0))))
			names = append(names, "device")
			for _, name := range append(names, "link") {
				require.NoError(t, os.Lchown(dir+"/"+name, firstID, firstID))
			}
		}
		for _, name := range names {
			for _, flag := range []int{os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_CREATE | os.O_TRUNC} {
				_, err := root.OpenFile(name, flag, 0o644)
				require.Error(t, err, "%s %x", name, flag)
				if name != "device" { // nodev may be first: EACCES
					require.ErrorIs(t, err, fs.ErrInvalid, "%s %x", name, flag)
				}
			}
		}
		var out bytes.Buffer
		require.NoError(t, root.CopyOut(t.Context(), "/", &out, CopyOptions{}))
		require.Equal(t, "./ fifo link", strings.Join(listTar(t, &out), " "))
		for _, f := range []int{unix.O_DIRECTORY, unix.O_PATH, unix.O_TMPFILE} {
			_, err := root.OpenFile("x", f, 0)
			require.ErrorIs(t, err, fs.ErrInvalid)
		}
		_, err := root.Open("/")
		require.ErrorIs(t, err, unix.EISDIR)
		require.ErrorIs(t, root.Remove("/.."), fs.ErrInvalid)
		require.ErrorIs(t, root.RemoveAll(t.Context(), "/"), fs.ErrInvalid)
		require.ErrorIs(t, root.Rename("/", "/x"), fs.ErrInvalid)
	})
}

func listTar(t testing.TB, r io.Reader) (names []string) {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return names
		}
		require.NoError(t, err)
		names = append(names, h.Name)
	}
}

// Links lead nowhere but into the tree, whoever renames them in its way; without the Root they lead out.
func TestRootStaysInside(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		testenv.Leaks(t)
		root, dir := newRoot(t)
		outside := t.TempDir()
		require.NoError(t, os.WriteFile(outside+"/secret", []byte("outside"), 0o644))
		require.NoError(t, root.MkdirAll("real", 0o777))
		require.NoError(t, root.Symlink(outside, "absolute"))
		require.NoError(t, root.Symlink(strings.Repeat("../", 20)+outside[1:], "relative"))
		for _, name := range []string{"absolute/secret", "relative/secret", "../../" + outside + "/secret"} {
			_, err := root.ReadFile(name)
			require.ErrorIs(t, err, fs.ErrNotExist, name)
		}
		b, err := os.ReadFile(dir + "/absolute/secret")
		require.NoError(t, err, "the control")
		require.Equal(t, "outside", string(b))

		var done atomic.Bool
		var swaps sync.WaitGroup
		require.NoError(t, os.Symlink(outside, dir+"/evil"))
		swaps.Go(func() {
			for !done.Load() {
				_ = unix.Renameat2(unix.AT_FDCWD, dir+"/real", unix.AT_FDCWD, dir+"/evil", unix.RENAME_EXCHANGE)
			}
		})
		defer swaps.Wait()
		defer done.Store(true)
		archive := tarOf(t, &tar.Header{Typeflag: tar.TypeReg, Name: "written", Size: 1, Mode: 0o644})
		for range 200 {
			b, err := root.ReadFile("real/secret")
			require.ErrorIs(t, err, fs.ErrNotExist, "%s", b)
			_ = root.WriteFile("real/written", []byte("x"), 0o644)
			_ = root.Mkdir("real/written.d", 0o755)
			_ = root.Rename("real/written", "real/written2")
			_ = root.CopyIn(t.Context(), "real", bytes.NewReader(archive), CopyOptions{})
			_ = root.Chmod("real/secret", 0o777)
			_ = root.RemoveAll(t.Context(), "real/secret")
			var out bytes.Buffer
			if root.CopyOut(t.Context(), "real", &out, CopyOptions{}) == nil {
				require.NotContains(t, out.String(), "outside")
			}
		}
		list, err := os.ReadDir(outside)
		require.NoError(t, err)
		require.Len(t, list, 1)
		info, err := list[0].Info()
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o644), info.Mode())
		written := false
		for range 10000 {
			if written = os.WriteFile(dir+"/real/control", nil, 0o644) == nil && exists(outside+"/control"); written {
				break
			}
		}
		require.True(t, written, "the control did not get out")
	})
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// tarOf makes an archive of entries; files are full of "x".
func tarOf(t testing.TB, entries ...*tar.Header) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		require.NoError(t, w.WriteHeader(h))
		_, err := w.Write(bytes.Repeat([]byte("x"), int(h.Size)))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

// What CopyIn made of an archive CopyOut makes into the same again.
func TestCopy(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		testenv.Leaks(t)
		root, _ := newRoot(t)
		at := time.Unix(1_000_000_000, 987654321)
		entry := func(kind byte, name string, mode, size int64, link string) *tar.Header {
			return &tar.Header{Format: tar.FormatPAX, Typeflag: kind, Name: name, Mode: mode, Size: size, Linkname: link, ModTime: at}
		}
		entries := []*tar.Header{
			entry(tar.TypeReg, "a", 0o4711, 5, ""),
			entry(tar.TypeLink, "b", 0o4711, 0, "a"),
			entry(tar.TypeReg, "big", 0o600, 3<<20, ""),
			entry(tar.TypeReg, "empty", 0, 0, ""),
			entry(tar.TypeFifo, "fifo", 0o640, 0, ""),
			entry(tar.TypeSymlink, "link", 0o777, 0, "/nowhere/at/all"),
			entry(tar.TypeReg, "no\xffutf8 ü\n", 0o644, 1, ""),
			entry(tar.TypeDir, "d/", 0o1777, 0, ""),
			entry(tar.TypeReg, "d/x", 0o644, 1, ""),
			entry(tar.TypeDir, "d/closed/", 0, 0, ""),
			entry(tar.TypeReg, "d/closed/y", 0o644, 2, ""),
		}
		for i := range 200 {
			entries = append(entries, entry(tar.TypeReg, fmt.Sprintf("d/many%03d", i), 0o644, int64(i), ""))
		}
		archive := tarOf(t, entries...)
		if os.Geteuid() == 0 {
			entries[0].Uid, entries[1].Uid, entries[0].Gid, entries[1].Gid = 33, 33, 65535, 65535
			archive = tarOf(t, entries...)
		}
		options := CopyOptions{KeepOwner: os.Geteuid() == 0}
		require.NoError(t, root.Mkdir("first", 0o755))
		require.NoError(t, root.Mkdir("second", 0o755))
		if os.Geteuid() != 0 {
			// He can't read what he has no right to.
			require.NoError(t, root.CopyIn(t.Context(), "first", bytes.NewReader(archive), options))
			require.ErrorIs(t, root.CopyOut(t.Context(), "first", io.Discard, CopyOptions{}), fs.ErrPermission)
			require.ErrorIs(t, root.RemoveAll(t.Context(), "first"), fs.ErrPermission)
			require.NoError(t, root.Chmod("first/d/closed", 0o700))
			require.NoError(t, root.RemoveAll(t.Context(), "first"))
			require.NoError(t, root.Mkdir("first", 0o755))
			entries = append(entries[:9:9], entries[11:]...)
			entries[3].Mode = 0o400
			archive = tarOf(t, entries...)
		}
		require.NoError(t, root.CopyIn(t.Context(), "first", bytes.NewReader(archive), options))
		var one, two bytes.Buffer
		require.NoError(t, root.CopyOut(t.Context(), "/first", &one, CopyOptions{}))
		require.NoError(t, root.CopyIn(t.Context(), "second", bytes.NewReader(one.Bytes()), options))
		require.NoError(t, root.CopyIn(t.Context(), "second", bytes.NewReader(one.Bytes()), options), "over what is there")
		require.NoError(t, root.Chtimes("first", time.Time{}, at))
		require.NoError(t, root.Chtimes("second", time.Time{}, at))
		one.Reset()
		require.NoError(t, root.CopyOut(t.Context(), "/first", &one, CopyOptions{}))
		require.NoError(t, root.CopyOut(t.Context(), "/second", &two, CopyOptions{}))
		require.True(t, bytes.Equal(one.Bytes(), two.Bytes()))

		got := map[string]*tar.Header{}
		for r := tar.NewReader(&one); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			h.PAXRecords, h.Format = nil, tar.FormatPAX
			got[h.Name] = h
		}
		require.Len(t, got, len(entries)+1)
		for _, want := range entries {
			if os.Geteuid() != 0 {
				want.Uid, want.Gid = os.Getuid(), os.Getgid()
			}
			have := got[want.Name]
			require.NotNil(t, have, want.Name)
			require.True(t, want.ModTime.Equal(have.ModTime), want.Name)
			want.ModTime, want.PAXRecords = have.ModTime, nil
			if want.Typeflag == tar.TypeLink { // the name that comes first is the file
				require.Equal(t, "a", have.Linkname)
				continue
			}
			require.Equal(t, want, have)
		}
		// One file has its own name.
		var file bytes.Buffer
		require.NoError(t, root.CopyOut(t.Context(), "/first/d/x", &file, CopyOptions{}))
		require.Equal(t, []string{"x"}, listTar(t, &file))
	})
}

// Who fills a tree without end costs bounded work and memory.
func TestCopyBounds(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		testenv.Leaks(t)
		root, dir := newRoot(t)
		limit := func(what string, err error) {
			t.Helper()
			var e *LimitError
			require.ErrorAs(t, err, &e)
			require.Equal(t, what, e.What)
		}
		require.NoError(t, root.Mkdir("sparse", 0o755))
		require.NoError(t, root.WriteFile("sparse/f", nil, 0o644))
		require.NoError(t, os.Truncate(dir+"/sparse/f", 1<<40))
		limit("bytes", root.CopyOut(t.Context(), "sparse", io.Discard, CopyOptions{}))
		limit("bytes", root.CopyOut(t.Context(), "sparse/f", io.Discard, CopyOptions{}))
		require.NoError(t, os.Truncate(dir+"/sparse/f", MaxReadFile+1))
		_, err := root.ReadFile("sparse/f")
		limit("bytes of a file", err)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		require.NoError(t, os.Truncate(dir+"/sparse/f", 1<<40))
		require.ErrorIs(t, root.CopyOut(ctx, "sparse", io.Discard, CopyOptions{MaxBytes: 1 << 41}), context.DeadlineExceeded)

		require.NoError(t, root.Mkdir("deep", 0o755))
		require.NoError(t, root.MkdirAll("deep/"+strings.Repeat("d/", MaxCopyDepth+10), 0o755))
		var cut bytes.Buffer
		limit("depth", root.CopyOut(t.Context(), "deep", &cut, CopyOptions{}))
		require.NotContains(t, cut.String()[max(0, cut.Len()-1024):], strings.Repeat("\x00", 1024), "an archive that is cut has no end")
		limit("depth", root.RemoveAll(t.Context(), "deep"))
		require.NoError(t, Remove(t.Context(), dir+"/deep"))

		require.NoError(t, root.Mkdir("many", 0o755))
		var done atomic.Bool
		var fill sync.WaitGroup
		fill.Go(func() {
			for i := 0; !done.Load(); i++ {
				_ = os.WriteFile(fmt.Sprintf("%s/many/%d", dir, i), nil, 0o644)
			}
		})
		require.Eventually(t, func() bool {
			return errors.As(root.CopyOut(t.Context(), "many", io.Discard, CopyOptions{MaxEntries: 100}), new(*LimitError))
		}, 10*time.Second, time.Millisecond)
		for range 20 {
			require.NoError(t, ignore(root.CopyOut(t.Context(), "many", io.Discard, CopyOptions{}), unix.ENOENT))
			err := root.RemoveAll(t.Context(), "many")
			if err != nil {
				require.ErrorIs(t, err, unix.ENOTEMPTY)
			}
			require.NoError(t, root.MkdirAll("many", 0o777))
		}
		done.Store(true)
		fill.Wait()

		archive := tarOf(t, &tar.Header{Name: "a", Size: 10}, &tar.Header{Name: "b", Size: 10})
		limit("bytes", root.CopyIn(t.Context(), "/", bytes.NewReader(archive), CopyOptions{MaxBytes: 19}))
		limit("entries", root.CopyIn(t.Context(), "/", bytes.NewReader(archive), CopyOptions{MaxEntries: 1}))
	})
}

// What no archive may say is an error, and reaches nothing outside of the directory.
func TestCopyInInvalid(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		testenv.Leaks(t)
		root, dir := newRoot(t)
		require.NoError(t, root.Mkdir("in", 0o755))
		require.NoError(t, root.WriteFile("victim", []byte("whole"), 0o644))
		up := &tar.Header{Typeflag: tar.TypeSymlink, Name: "up", Linkname: ".."}
		top := &tar.Header{Typeflag: tar.TypeSymlink, Name: "top", Linkname: "/"}
		for name, archive := range map[string][]byte{
			"dots":                  tarOf(t, &tar.Header{Name: "../victim", Size: 1}),
			"dots within":           tarOf(t, &tar.Header{Name: "a/../../victim", Size: 1}),
			"through a link":        tarOf(t, up, &tar.Header{Name: "up/victim", Size: 1}),
			"through an absolute":   tarOf(t, top, &tar.Header{Name: "top/victim", Size: 1}),
			"directory in a link":   tarOf(t, up, &tar.Header{Typeflag: tar.TypeDir, Name: "up/new/", Mode: 0o755}),
			"hard link out":         tarOf(t, &tar.Header{Typeflag: tar.TypeLink, Name: "l", Linkname: "../victim"}),
			"hard link by a link":   tarOf(t, up, &tar.Header{Typeflag: tar.TypeLink, Name: "l", Linkname: "up/victim"}),
			"hard link to nothing":  tarOf(t, &tar.Header{Typeflag: tar.TypeLink, Name: "l", Linkname: "none"}),
			"device":                tarOf(t, &tar.Header{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}),
			"a file at the top":     tarOf(t, &tar.Header{Name: ".", Size: 1}),
			"long name":             tarOf(t, &tar.Header{Name: strings.Repeat("n", 256), Size: 1}),
			"file over a directory": tarOf(t, &tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o700}, &tar.Header{Name: "d", Size: 1}),
			"no archive":            bytes.Repeat([]byte("no"), 600),
			"cut short":             tarOf(t, &tar.Header{Name: "f", Size: 5000})[:2000],
		} {
			t.Run(name, func(t *testing.T) {
				err := root.CopyIn(t.Context(), "in", bytes.NewReader(archive), CopyOptions{})
				var e *fs.PathError
				require.ErrorAs(t, err, &e)
				require.Equal(t, "/in", e.Path)
				b, err := root.ReadFile("victim")
				require.NoError(t, err)
				require.Equal(t, "whole", string(b))
				list, err := os.ReadDir(dir)
				require.NoError(t, err)
				require.Len(t, list, 2)
				require.NoError(t, root.RemoveAll(t.Context(), "in"))
				require.NoError(t, root.Mkdir("in", 0o755))
			})
		}
		// A link to a directory of the tree's, and one to a file, are replaced, not followed.
		require.NoError(t, root.Symlink("../victim", "in/f"))
		require.NoError(t, root.Symlink("..", "in/d"))
		archive := tarOf(t, &tar.Header{Name: "/f", Size: 1, Mode: 0o644}, &tar.Header{Typeflag: tar.TypeDir, Name: "./d/", Mode: 0o755}, &tar.Header{Name: "d/victim", Size: 1})
		require.NoError(t, root.CopyIn(t.Context(), "in", bytes.NewReader(archive), CopyOptions{}))
		b, err := root.ReadFile("victim")
		require.NoError(t, err)
		require.Equal(t, "whole", string(b))
		require.ErrorIs(t, root.CopyIn(t.Context(), "none", bytes.NewReader(archive), CopyOptions{}), fs.ErrNotExist)
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("enough")
		cancel(cause)
		require.ErrorIs(t, root.CopyIn(ctx, "in", bytes.NewReader(archive), CopyOptions{}), cause)
	})
}

func TestCopyFS(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		testenv.Leaks(t)
		root, _ := newRoot(t)
		tree := fstest.MapFS{"a": {Mode: fs.ModeDir | 0o755}, "a/b": {Mode: fs.ModeDir | 0o755}, "a/b/c": {Data: []byte("deep"), Mode: 0o600}, "top": {Data: []byte("x"), Mode: 0o755}}
		require.NoError(t, root.CopyFS(t.Context(), "/", tree, CopyOptions{}))
		b, err := root.ReadFile("a/b/c")
		require.NoError(t, err)
		require.Equal(t, "deep", string(b))
		tree["socket"] = &fstest.MapFile{Mode: fs.ModeSocket}
		require.Error(t, root.CopyFS(t.Context(), "/", tree, CopyOptions{}))
	})
}

// A full disk is an error that says which file.
func TestCopyInFull(t *testing.T) {
	testenv.Root(t)
	testenv.Leaks(t)
	dir := t.TempDir()
	require.NoError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=128k"))
	defer func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) }()
	top, err := os.Open(dir)
	require.NoError(t, err)
	defer top.Close()
	root := NewRoot(top, nil, 0, 0)
	for _, size := range []int64{1 << 19, 2 << 20} {
		err := root.CopyIn(t.Context(), "/", bytes.NewReader(tarOf(t, &tar.Header{Name: "small", Size: 1}, &tar.Header{Name: "large", Size: size})), CopyOptions{})
		require.ErrorIs(t, err, unix.ENOSPC)
		require.ErrorContains(t, err, `"large"`)
	}
	require.ErrorIs(t, root.WriteFile("f", make([]byte, 1<<20), 0o644), unix.ENOSPC)
}
