//go:build linux

package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	it "github.com/seed-5a9fb6e0/sandbox/internal/imagetest"
)

// unpackChain unpacks archives, bottom first, into dir/0, dir/1 … as Pull does.
func unpackChain(dir string, limits Limits, archives ...[]byte) error {
	var done []stored
	for i, data := range archives {
		l := stored{dir: filepath.Join(dir, strconv.Itoa(i))}
		if err := mkdirs(l.dir, l.dir+"/trash"); err != nil {
			return err
		}
		below := func(context.Context) ([]string, error) {
			var dirs []string
			for _, l := range visibleLayers(done) {
				dirs = append([]string{l.fs()}, dirs...)
			}
			return dirs, nil
		}
		out, err := unpack(context.Background(), l.fs(), bytes.NewReader(data), unpackOptions{limits: limits, below: below, trash: l.dir + "/trash"})
		if err != nil {
			return err
		}
		l.meta.unpacked = out
		meta, err := json.Marshal(out)
		if err != nil {
			return err
		}
		if err := os.WriteFile(l.dir+"/layer.json", meta, 0o644); err != nil {
			return err
		}
		done = append(done, l)
	}
	return nil
}

// helperUnpack unpacks the files args[1:] into args[0].
func helperUnpack(args []string) error {
	var archives [][]byte
	for _, file := range args[1:] {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		archives = append(archives, data)
	}
	return unpackChain(args[0], Limits{}, archives...)
}

// as is how a table is run: by this process, which is root, or by a process of an ordinary user.
type as struct {
	name string
	uid  int
}

var everybody = []as{{"root", 0}, {"user", 65534}}

// unpack unpacks archives into dir.
func (a as) unpack(t *testing.T, dir string, archives ...[]byte) error {
	t.Helper()
	require.Zero(t, os.Geteuid(), "these tests need root")
	if a.uid == 0 {
		return unpackChain(dir, Limits{}, archives...)
	}
	args := []string{dir}
	for i, data := range archives {
		file := filepath.Join(openDir(t, a.uid), strconv.Itoa(i)+".tar")
		require.NoError(t, os.WriteFile(file, data, 0o644))
		args = append(args, file)
	}
	cmd := helper(t, uint32(a.uid), "unpack", args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// mount mounts what was unpacked into dir by a real overlayfs, as the kernel shows it to a sandbox, and returns a path to
// its root. The mount is attached nowhere and goes with its descriptor.
func (a as) mount(t *testing.T, dir string, n int) string {
	t.Helper()
	var all []stored
	for i := range n {
		l := stored{dir: filepath.Join(dir, strconv.Itoa(i))}
		data, err := os.ReadFile(l.dir + "/layer.json")
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(data, &l.meta.unpacked))
		all = append(all, l)
	}
	var dirs []string
	for _, l := range visibleLayers(all) {
		dirs = append([]string{l.fs()}, dirs...)
	}
	return overlay(t, a.uid != 0, dirs)
}

func overlay(t *testing.T, userxattr bool, topFirst []string) string {
	t.Helper()
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(fd)
	if userxattr {
		require.NoError(t, unix.FsconfigSetFlag(fd, "userxattr"))
	}
	// Without an upper directory overlayfs wants two lower ones.
	for _, dir := range append(topFirst, t.TempDir(), t.TempDir()) {
		require.NoError(t, unix.FsconfigSetString(fd, "lowerdir+", dir))
	}
	require.NoError(t, unix.FsconfigCreate(fd))
	mnt, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(mnt) })
	return fmt.Sprintf("/proc/self/fd/%d/.", mnt)
}

type entries = []it.Entry

func layersOf(t testing.TB, list ...entries) [][]byte {
	t.Helper()
	var archives [][]byte
	for _, e := range list {
		archives = append(archives, it.Tar(t, e...))
	}
	return archives
}

var (
	oldA  = entries{it.Dir("a/", 0o755), it.File("a/old", "1", 0o644)}
	merge = entries{it.Dir("usr/", 0o755), it.Dir("usr/lib/", 0o755), it.File("usr/lib/c", "c", 0o644), it.Symlink("lib", "usr/lib")}
)

func modeOf(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	st, err := os.Lstat(path)
	require.NoError(t, err)
	require.Equal(t, want, st.Mode(), path)
}

func sameFile(t *testing.T, a, b string) {
	t.Helper()
	x, err := os.Lstat(a)
	require.NoError(t, err)
	y, err := os.Lstat(b)
	require.NoError(t, err)
	require.True(t, os.SameFile(x, y), "%s and %s are not linked", a, b)
}

// TestMounted: what a real overlayfs shows of layers.
func TestMounted(t *testing.T) {
	wh, file, dir, link, sym := it.Whiteout, it.File, it.Dir, it.Link, it.Symlink
	cases := []struct {
		name   string
		layers []entries
		want   []string
		check  func(t *testing.T, root string)
	}{
		{name: "whiteout, directory, content", layers: []entries{oldA, {wh(".wh.a"), dir("a/", 0o755), file("a/new", "2", 0o644)}},
			want: []string{"a/", "a/new=2"}},
		{name: "whiteout, content without the directory", layers: []entries{{dir("a/", 0o700), file("a/old", "1", 0o644)}, {wh(".wh.a"), file("a/new", "2", 0o644)}},
			want: []string{"a/", "a/new=2"}, check: func(t *testing.T, r string) { modeOf(t, r+"/a", fs.ModeDir|0o755) }},
		{name: "directory, content, whiteout", layers: []entries{oldA, {dir("a/", 0o755), file("a/new", "2", 0o644), wh(".wh.a")}},
			want: []string{"a/", "a/new=2"}},
		{name: "content, whiteout, no directory", layers: []entries{{dir("a/", 0o700), file("a/old", "1", 0o644)}, {file("a/new", "2", 0o644), wh(".wh.a")}},
			want: []string{"a/", "a/new=2"}, check: func(t *testing.T, r string) { modeOf(t, r+"/a", fs.ModeDir|0o755) }},
		{name: "file then its whiteout", layers: []entries{{file("x", "old", 0o644)}, {file("x", "new", 0o644), wh(".wh.x")}}, want: []string{"x=new"}},
		{name: "whiteout then the file", layers: []entries{{file("x", "old", 0o644)}, {wh(".wh.x"), file("x", "new", 0o644)}}, want: []string{"x=new"}},
		{name: "whiteout", layers: []entries{oldA, {wh("a/.wh.old")}}, want: []string{"a/"}},
		{name: "whiteout of a directory", layers: []entries{oldA, {wh(".wh.a")}}},
		{name: "opaque first", layers: []entries{oldA, {dir("a/", 0o755), wh("a/.wh..wh..opq"), file("a/new", "2", 0o644)}}, want: []string{"a/", "a/new=2"}},
		{name: "opaque last", layers: []entries{oldA, {dir("a/", 0o755), file("a/new", "2", 0o644), wh("a/.wh..wh..opq")}}, want: []string{"a/", "a/new=2"}},
		{name: "opaque before the directory", layers: []entries{oldA, {wh("a/.wh..wh..opq"), dir("a/", 0o755), file("a/new", "2", 0o644)}}, want: []string{"a/", "a/new=2"}},
		{name: "opaque and whiteout", layers: []entries{oldA, {dir("a/", 0o755), wh("a/.wh..wh..opq"), wh("a/.wh.old"), wh("a/.wh.ghost")}}, want: []string{"a/"}},
		{name: "whiteout of a missing name", layers: []entries{oldA, {wh("a/.wh.none"), wh("b/.wh.none"), wh(".wh.none"), dir("c/", 0o755), wh("c/.wh.none")}},
			want: []string{"a/", "a/old=1", "c/"}},
		{name: "whiteouts in the only layer", layers: []entries{{dir("c/", 0o755), wh("c/.wh.none"), wh(".wh.none")}}, want: []string{"c/"}},
		{name: "opaque root", layers: []entries{oldA, {wh(".wh..wh..opq"), file("b", "2", 0o644), wh(".wh.a")}}, want: []string{"b=2"}},
		{name: "opaque on a missing directory", layers: []entries{oldA, {wh("n/.wh..wh..opq")}}, want: []string{"a/", "a/old=1", "n/"},
			check: func(t *testing.T, r string) { modeOf(t, r+"/n", fs.ModeDir|0o755) }},
		{name: "deleted, then made again", layers: []entries{oldA, {wh(".wh.a")}, {dir("a/", 0o755), file("a/new", "3", 0o644)}}, want: []string{"a/", "a/new=3"}},
		{name: "whiteout below a whiteout", layers: []entries{oldA, {wh(".wh.a")}, {wh("a/.wh.old"), wh(".wh.a")}}},
		{name: "whiteout through a link", layers: []entries{merge, {wh("lib/.wh.c")}}, want: []string{"lib -> usr/lib", "usr/", "usr/lib/"}},
		{name: "hard link to a lower file", layers: []entries{{dir("d/", 0o700), file("d/t", "1", 0o640)}, {link("l", "d/t")}}, want: []string{"d/", "d/t=1", "l=1"},
			check: func(t *testing.T, r string) {
				sameFile(t, r+"/l", r+"/d/t")
				modeOf(t, r+"/l", 0o640)
				modeOf(t, r+"/d", fs.ModeDir|0o700)
			}},
		{name: "hard link, absolute", layers: []entries{{file("t", "1", 0o644), dir("d/", 0o755), link("d/l", "/t")}}, want: []string{"d/", "d/l=1", "t=1"},
			check: func(t *testing.T, r string) { sameFile(t, r+"/d/l", r+"/t") }},
		{name: "hard link to a link", layers: []entries{{sym("s", "/etc/passwd"), link("l", "s")}}, want: []string{"l -> /etc/passwd", "s -> /etc/passwd"}},
		{name: "hard link to a lower link", layers: []entries{{sym("s", "/etc/passwd")}, {link("l", "s")}}, want: []string{"l -> /etc/passwd", "s -> /etc/passwd"}},
		{name: "hard link over a file", layers: []entries{{file("t", "1", 0o644), file("l", "2", 0o644), link("l", "t"), link("l", "t")}}, want: []string{"l=1", "t=1"}},
		{name: "dots inside", layers: []entries{{dir("a/", 0o755), file("a/.././b", "1", 0o644), file("//c", "2", 0o644), file("./d", "3", 0o644)}}, want: []string{"a/", "b=1", "c=2", "d=3"}},
		{name: "parent is a lower link", layers: []entries{merge, {file("lib/x", "x", 0o644)}}, want: []string{"lib -> usr/lib", "usr/", "usr/lib/", "usr/lib/c=c", "usr/lib/x=x"}},
		{name: "parent is a link of this layer", layers: []entries{merge, {sym("l2", "lib"), file("l2/x", "x", 0o644)}},
			want: []string{"l2 -> lib", "lib -> usr/lib", "usr/", "usr/lib/", "usr/lib/c=c", "usr/lib/x=x"}},
		{name: "explicit directory over a link", layers: []entries{merge, {dir("lib/", 0o755), file("lib/x", "x", 0o644)}},
			want: []string{"lib/", "lib/x=x", "usr/", "usr/lib/", "usr/lib/c=c"}},
		{name: "absolute and escaping links", layers: []entries{{sym("abs", "/t"), sym("up", "../../../../../t"), dir("t/", 0o755)}, {file("abs/a", "a", 0o644), file("up/b", "b", 0o644)}},
			want: []string{"abs -> /t", "t/", "t/a=a", "t/b=b", "up -> ../../../../../t"}},
		{name: "escaping link in one layer", layers: []entries{{sym("d", "/tmp/outside"), file("d/x", "x", 0o644)}}, want: []string{"d -> /tmp/outside", "tmp/", "tmp/outside/", "tmp/outside/x=x"}},
		{name: "link then file", layers: []entries{{sym("f", "/etc/passwd"), file("f", "mine", 0o644)}}, want: []string{"f=mine"}},
		{name: "implied parents", layers: []entries{{dir("p/", 0o710)}, {file("p/x", "", 0o644), file("q/r/x", "", 0o644)}}, want: []string{"p/", "p/x=", "q/", "q/r/", "q/r/x="},
			check: func(t *testing.T, r string) {
				modeOf(t, r+"/p", fs.ModeDir|0o710)
				modeOf(t, r+"/q/r", fs.ModeDir|0o755)
			}},
		{name: "lower file where a directory is needed", layers: []entries{{file("f", "1", 0o644)}, {file("f/x", "x", 0o644)}}, want: []string{"f/", "f/x=x"}},
		{name: "directory replaced by a file and back", layers: []entries{{dir("d/", 0o755), file("d/x", "1", 0o644), file("d", "f", 0o644), dir("e/", 0o755), file("e", "", 0o644), dir("e/", 0o700), file("e/y", "", 0o644)}},
			want: []string{"d=f", "e/", "e/y="}},
		{name: "file over a lower directory", layers: []entries{oldA, {file("a", "f", 0o644)}}, want: []string{"a=f"}},
		{name: "aufs files", layers: []entries{{dir(".wh..wh.plnk/", 0o700), file(".wh..wh.plnk/1.2", "p", 0o644), link("x", ".wh..wh.plnk/1.2"), file(".wh..wh.aufs", "", 0o644), file("d/.wh..wh.odd", "", 0o644)}},
			want: []string{"d/", "x=p"}},
		{name: "aufs directory without an entry", layers: []entries{{file(".wh..wh.plnk/1.2", "p", 0o644), link("x", ".wh..wh.plnk/1.2")}}, want: []string{"x=p"}},
		{name: "unreadable directory", layers: []entries{{dir("d/", 0), file("d/x", "", 0)}, {file("e", "", 0o644)}}, want: []string{"d/", "d/x=", "e="}},
		{name: "odd names", layers: []entries{{file("\xff\xfe", "1", 0o644), file("a b\nc", "2", 0o644), file(strings.Repeat("n", 255), "3", 0o644)}},
			want: []string{"a b\nc=2", strings.Repeat("n", 255) + "=3", "\xff\xfe=1"}},
	}
	for _, who := range everybody {
		for _, c := range cases {
			t.Run(who.name+"/"+c.name, func(t *testing.T) {
				dir := openDir(t, who.uid)
				require.NoError(t, who.unpack(t, dir, layersOf(t, c.layers...)...))
				root := who.mount(t, dir, len(c.layers))
				require.Equal(t, c.want, listing(t, root))
				if c.check != nil {
					c.check(t, root)
				}
			})
		}
	}
}

// TestOpaqueMarks: a layer that root unpacked can be mounted with and without userxattr, and so a sandbox's user
// namespace can mount it.
func TestOpaqueMarks(t *testing.T) {
	dir := openDir(t, 0)
	require.NoError(t, everybody[0].unpack(t, dir, layersOf(t, oldA, entries{it.Whiteout(".wh.a"), it.Dir("a/", 0o755)})...))
	require.Equal(t, []string{"a/"}, listing(t, dir+"/1/fs"), "no whiteout is left beside the mark")
	for _, who := range everybody {
		require.Equal(t, []string{"a/"}, listing(t, who.mount(t, dir, 2)))
	}
	// The control: without the marks the deleted file is seen.
	require.NoError(t, unix.Removexattr(dir+"/1/fs/a", "user.overlay.opaque"))
	require.Equal(t, []string{"a/", "a/old=1"}, listing(t, overlay(t, true, []string{dir + "/1/fs", dir + "/0/fs"})))
}

func TestRejected(t *testing.T) {
	file, dir, link, sym := it.File, it.Dir, it.Link, it.Symlink
	special := func(kind byte, name string, major, minor int64) it.Entry {
		return it.Entry{Header: tar.Header{Typeflag: kind, Name: name, Devmajor: major, Devminor: minor, Mode: 0o600}}
	}
	cases := []struct {
		name   string
		layers []entries
		err    error
	}{
		{"whiteout of nothing", []entries{{file(".wh.", "", 0)}}, fs.ErrInvalid},
		{"whiteout of dot", []entries{{file("a/.wh..", "", 0)}}, fs.ErrInvalid},
		{"whiteout of dot dot", []entries{{file("a/.wh...", "", 0)}}, fs.ErrInvalid},
		{"whiteout as a directory", []entries{{file(".wh.a/b", "", 0)}}, fs.ErrInvalid},
		{"name leaves the root", []entries{{file("../escape", "", 0)}}, fs.ErrInvalid},
		{"name leaves the root later", []entries{{dir("a/", 0o755), file("a/../../escape", "", 0)}}, fs.ErrInvalid},
		{"hard link leaves the root", []entries{{link("l", "../../../../etc/passwd")}}, fs.ErrInvalid},
		{"hard link to the host", []entries{{link("l", "/etc/passwd")}}, fs.ErrNotExist},
		{"hard link through a link to the host", []entries{{sym("s", "/etc"), link("l", "s/passwd")}}, fs.ErrNotExist},
		{"hard link to a whited out file", []entries{{file("t", "", 0o644)}, {file(".wh.t", "", 0), link("l", "t")}}, fs.ErrNotExist},
		{"hard link to a file whited out later", []entries{{file("t", "", 0o644)}, {link("l", "t"), file(".wh.t", "", 0)}}, fs.ErrInvalid},
		{"hard link into a whited out directory", []entries{{dir("d/", 0o755), file("d/t", "", 0o644)}, {file(".wh.d", "", 0), link("l", "d/t")}}, fs.ErrNotExist},
		{"hard link into an opaque directory", []entries{{dir("d/", 0o755), file("d/t", "", 0o644)}, {file("d/.wh..wh..opq", "", 0), link("l", "d/t")}}, fs.ErrNotExist},
		{"hard link before its target", []entries{{link("l", "t"), file("t", "", 0o644)}}, fs.ErrNotExist},
		{"hard link to itself", []entries{{file("t", "", 0o644)}, {link("t", "t")}}, fs.ErrInvalid},
		{"hard link to a directory", []entries{{dir("d/", 0o755), link("l", "d")}}, fs.ErrInvalid},
		{"root is a link", []entries{{sym("./", "/etc")}}, fs.ErrInvalid},
		{"root is a fifo", []entries{{special(tar.TypeFifo, ".", 0, 0)}}, fs.ErrInvalid},
		{"device 0:0", []entries{{special(tar.TypeChar, "x", 0, 0)}}, fs.ErrInvalid},
		{"name too long", []entries{{file(strings.Repeat("n", 256), "", 0)}}, unix.ENAMETOOLONG},
		{"link loop", []entries{{sym("a", "b"), sym("b", "a")}, {file("a/x", "", 0)}}, unix.ELOOP},
		{"link loop in one layer", []entries{{sym("a", "a"), file("a/x", "", 0)}}, unix.ELOOP},
		{"file as a directory", []entries{{file("a", "", 0), file("a/x", "", 0)}}, unix.ENOTDIR},
		{"unknown type", []entries{{special('S'+1, "x", 0, 0)}}, fs.ErrInvalid},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := openDir(t, 0)
			err := unpackChain(dir, Limits{}, layersOf(t, c.layers...)...)
			require.ErrorIs(t, err, c.err)
			var ee *EntryError
			require.ErrorAs(t, err, &ee)
			user := everybody[1]
			require.ErrorContains(t, user.unpack(t, openDir(t, user.uid), layersOf(t, c.layers...)...), "entry ")
		})
	}
	t.Run("truncated", func(t *testing.T) {
		data := it.Tar(t, file("a", strings.Repeat("x", 2000), 0o644))
		require.ErrorIs(t, unpackChain(openDir(t, 0), Limits{}, data[:1200]), fs.ErrInvalid)
		require.ErrorIs(t, unpackChain(openDir(t, 0), Limits{}, data[:300]), fs.ErrInvalid)
	})
}

func TestLimits(t *testing.T) {
	cases := []struct {
		name   string
		limits Limits
		layer  entries
		what   string
	}{
		{"entries", Limits{Entries: 2}, entries{it.File("a", "", 0), it.File("b", "", 0), it.File("c", "", 0)}, "entries"},
		{"bytes", Limits{Bytes: 10}, entries{it.File("a", "123456", 0), it.File("b", "123456", 0)}, "bytes"},
		{"depth", Limits{Depth: 3}, entries{it.File("a/b/c/d", "", 0)}, "path components"},
		{"depth by a link", Limits{Depth: 3}, entries{it.Symlink("a", "1/2/3/4/5"), it.File("a/x", "", 0)}, "path components"},
		{"default depth", Limits{}, entries{it.File(strings.Repeat("d/", MaxDepth)+"x", "", 0)}, "path components"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var le *LimitError
			require.ErrorAs(t, unpackChain(openDir(t, 0), c.limits, it.Tar(t, c.layer...)), &le)
			require.Equal(t, c.what, le.What)
		})
	}
	t.Run("whole stream", func(t *testing.T) {
		host := it.Registry(t)
		data := append(it.Tar(t, it.File("a", "1", 0o644)), make([]byte, 1<<20)...) // zeros after the archive
		it.Push(t, host+"/bomb", it.Image(t, it.Blob(t, it.Gzip(t, data), data)))
		o := amd64
		o.Limits.Bytes = 100 << 10
		_, err := newStore(t).Pull(t.Context(), host+"/bomb", o)
		var le *LimitError
		require.ErrorAs(t, err, &le)
	})
}

// TestDeep has a path far longer than PATH_MAX, which no single call could be given.
func TestDeep(t *testing.T) {
	dir := openDir(t, 0)
	long := strings.Repeat(strings.Repeat("d", 250)+"/", 40)
	require.NoError(t, unpackChain(dir, Limits{}, layersOf(t, entries{it.File(long+"x", "1", 0o644), it.File(long+"y", "1", 0o644), it.Link("z", long+"x")})...))
	data, err := os.ReadFile(dir + "/0/fs/z")
	require.NoError(t, err)
	require.Equal(t, "1", string(data))
}

// TestDependence: a layer that looked at those below is kept apart for each set of them.
func TestDependence(t *testing.T) {
	host := it.Registry(t)
	top := it.Layer(t, it.File("lib/x", "x", 0o644), it.Whiteout("d/.wh.gone"))
	plain := it.Layer(t, it.File("top", "", 0o644))
	it.Push(t, host+"/merged", it.Image(t, it.Layer(t, append(merge, it.Dir("d/", 0o755), it.File("d/gone", "", 0o644))...), top, plain))
	it.Push(t, host+"/split", it.Image(t, it.Layer(t, it.Dir("lib/", 0o700)), top, plain))
	it.Push(t, host+"/alone", it.Image(t, top, plain))
	s := newStore(t)
	got := map[string]string{}
	for _, name := range []string{"merged", "split", "alone", "merged"} {
		img, err := s.Pull(t.Context(), host+"/"+name, PullOptions{Platform: "linux/amd64", Policy: PullAlways})
		require.NoError(t, err)
		n := len(img.Layers)
		got[name] = strings.Join(listing(t, img.Layers[n-2].Dir), " ")
		got["plain "+name] = img.Layers[n-1].Dir
	}
	require.Equal(t, "d/ d/gone c0:0 usr/ usr/lib/ usr/lib/x=x", got["merged"])
	require.Equal(t, "lib/ lib/x=x", got["split"])
	require.Equal(t, "lib/ lib/x=x", got["alone"])
	require.Equal(t, got["plain merged"], got["plain split"], "a layer that doesn't look below is shared")
}

func TestContextEndsUnpacking(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	dir := openDir(t, 0)
	require.NoError(t, os.Mkdir(dir+"/trash", 0o700))
	_, err := unpack(ctx, dir+"/fs", bytes.NewReader(it.Tar(t, it.File("a", "", 0))), unpackOptions{trash: dir + "/trash"})
	require.ErrorIs(t, err, why)
}
