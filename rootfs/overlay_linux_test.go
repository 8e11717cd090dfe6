package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// layered makes three layers and an upper one below dir.
func layered(t testing.TB, dir string) Overlay {
	t.Helper()
	o := Overlay{
		Lower: []string{
			write(t, dir+"/0", map[string]string{"a": "0", "b": "0", "gone": "0", "d/old": "0", "m/zero": "0"}),
			write(t, dir+"/1", map[string]string{"b": "1", "c": "1", "m/one": "1"}),
			write(t, dir+"/2", map[string]string{"c": "2", "gone#": "", "d/new": "2"}),
		},
		Upper: dir + "/upper", Work: dir + "/work",
	}
	require.NoError(t, unix.Setxattr(dir+"/2/d", "trusted.overlay.opaque", []byte("y"), 0))
	require.NoError(t, os.Chmod(dir+"/2", 0o711))
	require.NoError(t, os.Chown(dir+"/2/c", 5, 6))
	return o
}

func TestOverlay(t *testing.T) {
	testenv.Root(t)
	eachWay(t, func(t *testing.T) {
		testenv.Leaks(t)
		for _, kind := range []string{"disk", "tmpfs", "tmpfs upper", "read-only"} {
			t.Run(kind, func(t *testing.T) {
				dir := t.TempDir()
				if kind == "tmpfs" {
					dir = newTmpfsDir(t)
				}
				o := layered(t, dir)
				switch kind {
				case "tmpfs upper":
					o.Upper, o.Work, o.TmpfsSize = "", "", 1<<20
				case "read-only":
					o.Upper, o.Work = "", ""
				default:
					require.NoError(t, o.MakeUpper(t.Context()))
				}
				root := open(t, o)
				require.Equal(t, []string{
					"/ drwx--x--x 0:0", "/a -rw-r--r-- 0:0 0", "/b -rw-r--r-- 0:0 1", "/c -rw-r--r-- 5:6 2",
					"/d drwxr-xr-x 0:0", "/d/new -rw-r--r-- 0:0 2",
					"/m drwxr-xr-x 0:0", "/m/one -rw-r--r-- 0:0 1", "/m/zero -rw-r--r-- 0:0 0",
				}, tree(t, root))
				if kind == "read-only" {
					require.ErrorIs(t, os.WriteFile(root+"a", nil, 0o644), unix.EROFS)
					return
				}
				change(t, root)
				require.NoFileExists(t, o.Lower[0]+"/new")
				require.Equal(t, "0", read(t, o.Lower[0]+"/a"))
				if o.Upper != "" {
					require.Equal(t, "0+", read(t, o.Upper+"/a"))
					st := lstat(t, o.Upper+"/b")
					require.Equal(t, []uint64{unix.S_IFCHR, 0}, []uint64{uint64(st.Mode & unix.S_IFMT), uint64(st.Rdev)}, "a whiteout")
				}
			})
		}
	})
}

// change copies up, makes, removes and replaces.
func change(t testing.TB, root string) {
	t.Helper()
	f, err := os.OpenFile(root+"a", os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString("+")
	require.NoError(t, errors.Join(err, f.Close()))
	require.NoError(t, os.WriteFile(root+"new", []byte("n"), 0o644))
	require.NoError(t, os.Remove(root+"b"))
	require.NoError(t, os.RemoveAll(root+"m"))
	require.NoError(t, os.Mkdir(root+"m", 0o700))
	require.Equal(t, []string{
		"/ drwx--x--x 0:0", "/a -rw-r--r-- 0:0 0+", "/c -rw-r--r-- 5:6 2",
		"/d drwxr-xr-x 0:0", "/d/new -rw-r--r-- 0:0 2", "/m drwx------ 0:0", "/new -rw-r--r-- 0:0 n",
	}, tree(t, root))
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

func lstat(t testing.TB, path string) (st unix.Stat_t) {
	t.Helper()
	require.NoError(t, unix.Lstat(path, &st))
	return st
}

// TestOverlayUserNS: seen from inside, a layer's ids are those on disk; what is written inside has the mapped ones outside.
func TestOverlayUserNS(t *testing.T) {
	testenv.Root(t)
	ns := newUserNS(t, firstID)
	for _, kind := range []string{"disk", "tmpfs upper"} {
		t.Run(kind, func(t *testing.T) {
			eachWay(t, func(t *testing.T) {
				testenv.Leaks(t)
				dir := t.TempDir()
				require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
				o := layered(t, dir)
				o.UserNS = ns
				if kind == "tmpfs upper" {
					o.Upper, o.Work, o.TmpfsSize = "", "", 1<<20
				} else {
					require.NoError(t, o.MakeUpper(t.Context()))
				}
				f, err := o.Open(t.Context())
				require.NoError(t, err)
				defer f.Close()
				require.Equal(t, "0:0 711 .\n0:0 644 a\n5:6 644 c\n", inUserNS(t, ns, f, "stat -c '%u:%g %a %n' . a c"))
				got := inUserNS(t, ns, f, "echo n >new; echo + >>a; chown 9:9 c; rm -r m; mkdir m; stat -c '%u:%g %n' new a c m; cat a")
				require.Equal(t, "0:0 new\n0:0 a\n9:9 c\n0:0 m\n0+\n", got)
				for name, id := range map[string]uint32{"": firstID, "new": firstID, "a": firstID, "c": firstID + 9} {
					st := lstat(t, through(f)+name)
					require.Equal(t, []uint32{id, id}, []uint32{st.Uid, st.Gid}, "outside, %q", name)
				}
				require.Equal(t, uint32(5), lstat(t, o.Lower[2]+"/c").Uid)
			})
		})
	}
}

// TestOverlayWithoutUserNS is the control of TestOverlayUserNS: the ids are not mapped by anything else.
func TestOverlayWithoutUserNS(t *testing.T) {
	testenv.Root(t)
	ns := newUserNS(t, firstID)
	dir := t.TempDir()
	o := layered(t, dir)
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	require.NoError(t, o.MakeUpper(t.Context()))
	f, err := o.Open(t.Context())
	require.NoError(t, err)
	defer f.Close()
	require.Equal(t, "65534:65534 a\n", inUserNS(t, ns, f, "stat -c '%u:%g %n' a; ! touch new 2>/dev/null"))
}

func TestOverlayAttach(t *testing.T) {
	testenv.Root(t)
	testenv.Leaks(t)
	o := layered(t, t.TempDir())
	require.NoError(t, o.MakeUpper(t.Context()))
	f, err := o.Open(t.Context())
	require.NoError(t, err)
	at := t.TempDir()
	require.NoError(t, Attach(f, at))
	require.NoError(t, f.Close())
	require.Equal(t, "1", read(t, at+"/b"))
	var st unix.Statfs_t
	require.NoError(t, unix.Statfs(at, &st))
	require.Equal(t, int64(unix.ST_NODEV|unix.ST_NOSUID), st.Flags&(unix.ST_NODEV|unix.ST_NOSUID|unix.ST_RDONLY))
	require.NoError(t, Detach(at))
	require.NoFileExists(t, at+"/b")
	err = Detach(at)
	require.ErrorIs(t, err, unix.EINVAL)
	require.ErrorIs(t, Attach(os.Stdin, at), unix.EINVAL)
}

// TestOverlayFlags: each way sets the same flags of the mount.
func TestOverlayFlags(t *testing.T) {
	testenv.Root(t)
	const all = unix.ST_NODEV | unix.ST_NOSUID | unix.ST_RDONLY
	tests := map[string]struct {
		o    Overlay
		want int64
	}{
		"default":   {Overlay{TmpfsSize: 1 << 20}, unix.ST_NODEV | unix.ST_NOSUID},
		"read-only": {Overlay{}, all},
		"devices":   {Overlay{TmpfsSize: 1 << 20, Devices: true}, unix.ST_NOSUID},
		"setuid":    {Overlay{TmpfsSize: 1 << 20, SetUID: true, Sync: true}, unix.ST_NODEV},
	}
	lower := write(t, t.TempDir(), map[string]string{"a": "1", "w#": ""})
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			eachWay(t, func(t *testing.T) {
				test.o.Lower = []string{lower}
				root := open(t, test.o)
				var st unix.Statfs_t
				require.NoError(t, unix.Statfs(root, &st))
				require.Equal(t, test.want, st.Flags&all)
				require.NoFileExists(t, root+"w", "a whiteout of the only layer")
			})
		})
	}
}

// TestOverlayLayers mounts many layers, in each way; the times are for reading, no limit.
func TestOverlayLayers(t *testing.T) {
	testenv.Root(t)
	testenv.Leaks(t)
	ns := newUserNS(t, firstID)
	dir := t.TempDir()
	var lower []string
	for i := range MaxLower {
		lower = append(lower, write(t, fmt.Sprintf("%s/%d", dir, i), map[string]string{"all": fmt.Sprint(i), fmt.Sprint("f", i): ""}))
	}
	for _, n := range []int{1, 64, MaxLower} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			eachWay(t, func(t *testing.T) {
				base := t.TempDir()
				o := Overlay{Lower: lower[:n], Upper: base + "/u", Work: base + "/w", UserNS: ns}
				require.NoError(t, o.MakeUpper(t.Context()))
				start := time.Now()
				f, err := o.Open(t.Context())
				took := time.Since(start)
				require.NoError(t, err)
				defer f.Close()
				names, err := os.ReadDir(through(f))
				require.NoError(t, err)
				require.Len(t, names, n+1)
				require.Equal(t, fmt.Sprint(n-1), read(t, through(f)+"all"))
				t.Logf("%d idmapped layers: %v", n, took)
			})
		})
	}
}

func TestOverlayInvalid(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	missing, sub := filepath.Join(dir, "missing"), filepath.Join(dir, "sub")
	require.NoError(t, os.Mkdir(sub, 0o755))
	good := Overlay{Lower: []string{dir}}
	tests := map[string]struct {
		change func(o *Overlay)
		kind   error
		field  string
	}{
		"no layer":            {func(o *Overlay) { o.Lower = nil }, fs.ErrInvalid, "Lower"},
		"501 layers":          {func(o *Overlay) { o.Lower = make([]string, 501) }, errors.ErrUnsupported, "Lower"},
		"empty layer":         {func(o *Overlay) { o.Lower = append(o.Lower, "") }, fs.ErrInvalid, "Lower[1]"},
		"relative layer":      {func(o *Overlay) { o.Lower = append(o.Lower, "x") }, fs.ErrInvalid, "Lower[1]"},
		"NUL":                 {func(o *Overlay) { o.Lower = append(o.Lower, "/\x00") }, fs.ErrInvalid, "Lower[1]"},
		"upper without work":  {func(o *Overlay) { o.Upper = dir }, fs.ErrInvalid, "Work"},
		"work without upper":  {func(o *Overlay) { o.Work = dir }, fs.ErrInvalid, "Upper"},
		"work in upper":       {func(o *Overlay) { o.Upper, o.Work = "/a", "/a/b" }, fs.ErrInvalid, "Work"},
		"tmpfs and upper":     {func(o *Overlay) { o.Upper, o.Work, o.TmpfsSize = "/a", "/b", 1<<20 }, fs.ErrInvalid, "TmpfsSize"},
		"file too small":      {func(o *Overlay) { o.File, o.FileSize = "/a", 1<<19 }, fs.ErrInvalid, "FileSize"},
		"size without file":   {func(o *Overlay) { o.FileSize = 1 << 20 }, fs.ErrInvalid, "File"},
		"file and tmpfs":      {func(o *Overlay) { o.File, o.FileSize, o.TmpfsSize = "/a", 1<<20, 1<<20 }, fs.ErrInvalid, "File"},
		"tmpfs too small":     {func(o *Overlay) { o.TmpfsSize = 1 }, fs.ErrInvalid, "TmpfsSize"},
		"inodes without size": {func(o *Overlay) { o.TmpfsInodes = 100 }, fs.ErrInvalid, "TmpfsSize"},
		"one inode":           {func(o *Overlay) { o.TmpfsSize, o.TmpfsInodes = 1<<20, 1 }, fs.ErrInvalid, "TmpfsInodes"},
		"not a user ns":       {func(o *Overlay) { o.UserNS = os.Stdin }, fs.ErrInvalid, "UserNS"},
	}
	onlyRoot := map[string]struct {
		change func(o *Overlay)
		kind   error
		field  string
	}{
		"missing layer": {func(o *Overlay) { o.Lower = append(o.Lower, missing) }, fs.ErrNotExist, "Lower[1]"},
		"file as layer": {func(o *Overlay) { o.Lower = append(o.Lower, file) }, fs.ErrInvalid, "Lower[1]"},
		"missing upper": {func(o *Overlay) { o.Upper, o.Work = missing, sub }, fs.ErrNotExist, "Upper"},
		"missing work":  {func(o *Overlay) { o.Upper, o.Work = sub, missing }, fs.ErrNotExist, "Work"},
		"file as upper": {func(o *Overlay) { o.Upper, o.Work = file, sub }, fs.ErrInvalid, "Upper"},
		"other mount":   {func(o *Overlay) { o.Upper, o.Work = dir, "/proc" }, fs.ErrInvalid, "Work"},
	}
	if os.Getuid() == 0 {
		for name, test := range onlyRoot {
			tests[name] = test
		}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := good
			o.Lower = append([]string(nil), good.Lower...)
			test.change(&o)
			f, err := o.Open(t.Context())
			require.Nil(t, f)
			require.ErrorIs(t, err, test.kind)
			require.Contains(t, fields(err), test.field, "%v", err)
			names, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, names, 2, "nothing may be made")
		})
	}
}

// TestOverlayAllFaults: everything that is wrong comes at once.
func TestOverlayAllFaults(t *testing.T) {
	testenv.Root(t)
	_, err := Overlay{Lower: []string{"x", "/", ""}, Upper: "u"}.Open(t.Context())
	require.Equal(t, []string{"Lower[0]", "Lower[2]", "Upper", "Work"}, fields(err))
	_, err = Overlay{Lower: []string{"/none1", "/", "/none2"}, Upper: "/none3", Work: "/none4"}.Open(t.Context())
	require.Equal(t, []string{"Lower[0]", "Lower[2]", "Upper", "Work"}, fields(err))
	require.EqualError(t, Overlay{}.MakeUpper(t.Context()), `make upper: Lower: empty, need at least one directory`)
}

// TestOverlayUser: what an ordinary user gets.
func TestOverlayUser(t *testing.T) {
	if testenv.AsUser(t) {
		return
	}
	testenv.Leaks(t)
	f, err := Overlay{Lower: []string{"/usr"}, TmpfsSize: 1 << 20}.Open(t.Context())
	require.Nil(t, f)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorIs(t, err, fs.ErrPermission)
	require.ErrorContains(t, err, "CAP_SYS_ADMIN")
}

// TestOverlayReadOnlyUpper: the kernel mounts an upper layer that it can't use read-only and says nothing.
func TestOverlayReadOnlyUpper(t *testing.T) {
	testenv.Root(t)
	eachWay(t, func(t *testing.T) {
		testenv.Leaks(t)
		dir := newTmpfsDir(t)
		o := Overlay{Lower: []string{write(t, t.TempDir(), nil)}, Upper: dir + "/u", Work: dir + "/w"}
		require.NoError(t, o.MakeUpper(t.Context()))
		// No room for what overlayfs makes in the work directory.
		require.NoError(t, unix.Mount("", dir, "", unix.MS_REMOUNT, "nr_inodes=3"))
		f, err := o.Open(t.Context())
		require.Nil(t, f)
		var readOnly *ReadOnlyError
		require.ErrorAs(t, err, &readOnly)
		require.Equal(t, o.Upper, readOnly.Upper)
		require.ErrorIs(t, err, unix.EROFS)
	})
}

// TestOverlayVolatile: an upper layer that may be damaged is not mounted again as if it was not.
func TestOverlayVolatile(t *testing.T) {
	testenv.Root(t)
	eachWay(t, func(t *testing.T) {
		testenv.Leaks(t)
		for _, sync := range []bool{false, true} {
			o := layered(t, t.TempDir())
			o.Sync = sync
			require.NoError(t, o.MakeUpper(t.Context()))
			for again := range 2 {
				f, err := o.Open(t.Context())
				if again == 1 && !sync {
					require.ErrorIs(t, err, fs.ErrExist)
					require.Equal(t, []string{"Work"}, fields(err))
					require.NoError(t, os.Mkdir(o.Work+"2", 0o700))
					o.Work += "2"
					f, err = o.Open(t.Context())
				}
				require.NoError(t, err)
				require.NoError(t, f.Close())
			}
		}
	})
}

// TestOverlayNoIDMap: file systems and kernels without idmapped mounts.
func TestOverlayNoIDMap(t *testing.T) {
	testenv.Root(t)
	testenv.Leaks(t)
	ns := newUserNS(t, firstID)
	lower := open(t, Overlay{Lower: []string{write(t, t.TempDir(), nil)}, TmpfsSize: 1 << 20})
	_, err := Overlay{Lower: []string{lower}, UserNS: ns}.Open(t.Context())
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorIs(t, err, unix.EINVAL)
	require.ErrorContains(t, err, "file system overlay")
	require.ErrorContains(t, err, release())

	require.NotContains(t, err.Error(), "maps", "the namespace is not at fault")
	_, err = Overlay{Lower: []string{t.TempDir()}, UserNS: newUserNS(t, -1)}.Open(t.Context())
	require.ErrorContains(t, err, "UserNS has no id maps yet")
	own, err := os.Open("/proc/self/ns/user")
	require.NoError(t, err)
	defer own.Close()
	_, err = Overlay{Lower: []string{t.TempDir()}, UserNS: own}.Open(t.Context())
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.Equal(t, []string{"UserNS"}, fields(err))

	force(t, &setMountAttr)
	o := Overlay{Lower: []string{t.TempDir()}, TmpfsSize: 1 << 20}
	open(t, o)
	o.UserNS = ns
	_, err = o.Open(t.Context())
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "needs Linux 5.12, this is "+release())
	require.ErrorContains(t, err, "file system ext4")
}

func TestOverlayContext(t *testing.T) {
	testenv.Root(t)
	eachWay(t, func(t *testing.T) {
		testenv.Leaks(t)
		o := layered(t, t.TempDir())
		require.NoError(t, o.MakeUpper(t.Context()))
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		_, err := o.Open(ctx)
		require.ErrorIs(t, err, cause)
		// And while it works: whatever comes first, nothing is left.
		for i := range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*100*time.Microsecond)
			if f, err := o.Open(ctx); err == nil {
				f.Close()
			} else if !errors.Is(err, fs.ErrExist) { // the one before came to its end
				require.ErrorIs(t, err, context.DeadlineExceeded)
			}
			cancel()
		}
	})
}

func TestMakeUpper(t *testing.T) {
	testenv.Root(t)
	dir := t.TempDir()
	o := layered(t, dir)
	require.NoError(t, o.MakeUpper(t.Context()))
	require.ErrorIs(t, o.MakeUpper(t.Context()), fs.ErrExist)
	require.DirExists(t, o.Upper, "made by the first")
	o.Upper = dir + "/upper2"
	require.ErrorIs(t, o.MakeUpper(t.Context()), fs.ErrExist)
	require.NoDirExists(t, o.Upper, "taken back, as Work was there")
	o.Upper = dir + "/none/upper"
	require.ErrorIs(t, o.MakeUpper(t.Context()), fs.ErrNotExist)
	o.Upper, o.Work = "", ""
	require.ErrorIs(t, o.MakeUpper(t.Context()), fs.ErrInvalid)
}

func BenchmarkOpen(b *testing.B) {
	testenv.Root(b)
	ns := newUserNS(b, firstID)
	dir := b.TempDir()
	var lower []string
	for i := range MaxLower {
		lower = append(lower, write(b, fmt.Sprintf("%s/%d", dir, i), nil))
	}
	for _, way := range []string{"descriptor", "private"} {
		for _, n := range []int{1, 64, MaxLower} {
			b.Run(fmt.Sprintf("%s/%d", way, n), func(b *testing.B) {
				if way == "private" {
					force(b, &layersByDescriptor)
				}
				b.ReportAllocs()
				for b.Loop() {
					f, err := Overlay{Lower: lower[:n], TmpfsSize: 1 << 20, UserNS: ns}.Open(b.Context())
					if err != nil {
						b.Fatal(err)
					}
					f.Close()
				}
			})
		}
	}
}

// TestCloseDoesNotPropagate: the stacking of mounts at their end does not show in a shared mount that they are clones of.
func TestCloseDoesNotPropagate(t *testing.T) {
	testenv.Root(t)
	testenv.Leaks(t)
	dir := newTmpfsDir(t)
	require.NoError(t, unix.Mount("", dir, "", unix.MS_SHARED, ""))
	o := Overlay{Lower: []string{write(t, dir+"/0", map[string]string{"zero": ""}), write(t, dir+"/1", map[string]string{"one": ""})}}
	s, err := o.sources(t.Context())
	require.NoError(t, err)
	defer s.close()
	s.stack(s.lower)
	require.FileExists(t, dir+"/0/zero")
	require.NoFileExists(t, dir+"/0/one")
	require.FileExists(t, fmt.Sprintf("/proc/self/fd/%d/../one", s.lower[0]), "it was stacked")
}
