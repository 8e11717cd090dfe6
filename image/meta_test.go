//go:build linux

package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	it "github.com/seed-5a9fb6e0/sandbox/internal/imagetest"
)

// netCap is a version 2 security.capability with cap_net_raw permitted and effective (capabilities(7)).
const netCap = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// everything has one of each kind of file, with unusual attributes.
func everything() entries {
	at := func(e it.Entry, uid, gid int, xattrs ...string) it.Entry {
		e.Uid, e.Gid = uid, gid
		e.AccessTime = it.Epoch.Add(time.Hour)
		e.PAXRecords = map[string]string{}
		for i := 0; i < len(xattrs); i += 2 {
			e.PAXRecords[paxXattr+xattrs[i]] = xattrs[i+1]
		}
		return e
	}
	node := func(kind byte, name string, mode, major, minor int64) it.Entry {
		return it.Entry{Header: tar.Header{Typeflag: kind, Name: name, Mode: mode, Devmajor: major, Devminor: minor}}
	}
	return entries{
		at(it.Dir("./", 0o2750), 7, 8),
		at(it.File("suid", "s", 0o4755), 70000, 4000000000, "security.capability", netCap, "user.mine", "v\x00v"),
		at(it.Dir("d/", 0o3711), 1, 2, "user.dir", "1"),
		at(it.File("d/ro", "", 0o400), 3, 4),
		at(it.Symlink("l", "../../target"), 5, 6),
		at(node(tar.TypeFifo, "fifo", 0o622, 0, 0), 9, 10),
		at(node(tar.TypeChar, "null", 0o666, 1, 3), 11, 12),
		at(node(tar.TypeBlock, "disk", 0o660, 250, 300), 13, 14),
		it.Link("null2", "null"),
		at(it.File("evil", "", 0o644), 0, 0, "trusted.overlay.redirect", "/etc/shadow", "user.overlay.opaque", "y", "security.selinux", "x"),
		at(it.Dir("evild/", 0o755), 0, 0, "trusted.overlay.opaque", "y", "user.overlay.opaque", "y", "trusted.overlay.redirect", "/d"),
	}
}

func TestAttributes(t *testing.T) {
	for _, who := range everybody {
		t.Run(who.name, func(t *testing.T) {
			dir := openDir(t, who.uid)
			require.NoError(t, who.unpack(t, dir, it.Tar(t, everything()...)))
			fs := dir + "/0/fs/"
			check := func(name string, mode uint32, uid, gid uint32) {
				t.Helper()
				var st unix.Stat_t
				require.NoError(t, unix.Lstat(fs+name, &st))
				require.Equal(t, mode, st.Mode, name)
				if who.uid != 0 {
					uid, gid = uint32(who.uid), uint32(who.uid)
				}
				require.Equal(t, [2]uint32{uid, gid}, [2]uint32{st.Uid, st.Gid}, name)
				require.Equal(t, it.Epoch.UnixNano(), st.Mtim.Nano(), name)
				require.Equal(t, it.Epoch.Add(time.Hour).UnixNano(), st.Atim.Nano(), name)
			}
			check("", unix.S_IFDIR|0o2750, 7, 8)
			check("suid", unix.S_IFREG|0o4755, 70000, 4000000000)
			check("d", unix.S_IFDIR|0o3711, 1, 2)
			check("d/ro", unix.S_IFREG|0o400, 3, 4)
			check("l", unix.S_IFLNK|0o777, 5, 6)
			check("fifo", unix.S_IFIFO|0o622, 9, 10)
			require.Equal(t, "v\x00v", attr(t, fs+"suid", "user.mine"))
			require.Equal(t, "1", attr(t, fs+"d", "user.dir"))
			for _, name := range []string{"evil", "evild"} {
				list, err := readXattrs(fs + name)
				require.NoError(t, err)
				require.Empty(t, list)
			}
			data, err := os.ReadFile(dir + "/0/layer.json")
			require.NoError(t, err)
			var out unpacked
			require.NoError(t, json.Unmarshal(data, &out))
			require.Equal(t, 7, out.Root.UID)
			require.Equal(t, os.ModeSetgid|0o750, out.Root.Mode)
			if who.uid == 0 {
				check("null", unix.S_IFCHR|0o666, 11, 12)
				check("disk", unix.S_IFBLK|0o660, 13, 14)
				var st unix.Stat_t
				require.NoError(t, unix.Lstat(fs+"disk", &st))
				require.Equal(t, unix.Mkdev(250, 300), st.Rdev)
				require.Equal(t, netCap, attr(t, fs+"suid", "security.capability"))
				require.Equal(t, []string{"evil: security.selinux"}, out.Omitted)
				return
			}
			require.NoFileExists(t, fs+"null")
			require.Equal(t, []string{"suid: security.capability", "null: device", "disk: device", "null2: hard link to a device", "evil: security.selinux"}, out.Omitted)
		})
	}
}

func attr(t *testing.T, path, name string) string {
	t.Helper()
	buf := make([]byte, 100)
	n, err := unix.Lgetxattr(path, name, buf)
	require.NoError(t, err)
	return string(buf[:n])
}

// TestCopyUp: a hard link to a lower file brings all of the file.
func TestCopyUp(t *testing.T) {
	dir := openDir(t, 0)
	lower := everything()
	upper := entries{it.Link("l1", "suid"), it.Link("l2", "null"), it.Link("l3", "fifo"), it.Link("d/l4", "d/ro")}
	require.NoError(t, unpackChain(dir, Limits{}, layersOf(t, lower, upper)...))
	for _, name := range []string{"suid", "null", "fifo", "d/ro", "d"} {
		var a, b unix.Stat_t
		require.NoError(t, unix.Lstat(dir+"/0/fs/"+name, &a))
		require.NoError(t, unix.Lstat(dir+"/1/fs/"+name, &b))
		require.Equal(t, []any{a.Mode, a.Uid, a.Gid, a.Rdev, a.Mtim, a.Size * int64(a.Mode&unix.S_IFREG)},
			[]any{b.Mode, b.Uid, b.Gid, b.Rdev, b.Mtim, b.Size * int64(b.Mode&unix.S_IFREG)}, name)
		x, err := readXattrs(dir + "/0/fs/" + name)
		require.NoError(t, err)
		y, err := readXattrs(dir + "/1/fs/" + name)
		require.NoError(t, err)
		require.ElementsMatch(t, x, y, name)
	}
}

// TestSparse reads a GNU sparse file (old format, made by hand as no Go package makes one): its holes stay holes.
func TestSparse(t *testing.T) {
	const real = 64 << 20
	data := strings.Repeat("x", 512)
	var h [512]byte
	copy(h[0:], "sparse")
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	copy(h[124:], octal(512, 11))
	copy(h[136:], octal(1, 11))
	h[156] = tar.TypeGNUSparse
	copy(h[257:], "ustar  \x00")
	copy(h[386:], octal(real-512, 11)) // offset and size of the only piece
	copy(h[398:], octal(512, 11))
	copy(h[483:], octal(real, 11))
	copy(h[148:], "        ")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], octal(sum, 6)+"\x00 ")
	archive := append(append(bytes.Clone(h[:]), data...), make([]byte, 1024)...)
	dir := openDir(t, 0)
	require.NoError(t, unpackChain(dir, Limits{}, archive))
	var st unix.Stat_t
	require.NoError(t, unix.Stat(dir+"/0/fs/sparse", &st))
	require.EqualValues(t, real, st.Size)
	require.Less(t, st.Blocks*512, int64(1<<20))
	f, err := os.Open(dir + "/0/fs/sparse")
	require.NoError(t, err)
	defer f.Close()
	buf := make([]byte, 1024)
	_, err = f.ReadAt(buf, real-1024)
	require.NoError(t, err)
	require.Equal(t, string(make([]byte, 512))+data, string(buf))
}

func octal(n, width int) string {
	s := ""
	for range width {
		s = string(rune('0'+n%8)) + s
		n /= 8
	}
	return s
}
