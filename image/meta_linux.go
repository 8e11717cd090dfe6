package image

import (
	"archive/tar"
	"fmt"
	"sort"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dirMeta are the attributes of an entry; those of directories are set when everything is in place.
type dirMeta struct {
	mode     uint32 // 07777
	uid, gid uint32
	times    [2]unix.Timespec // access, modification
	xattrs   []xattr
}

type xattr struct{ name, value string }

const paxXattr = "SCHILY.xattr."

// metaOf takes them from an archive's header.
func (u *unpacker) metaOf(h *tar.Header) (*dirMeta, error) {
	const maxID = 1<<32 - 2 // -1 means "leave as it is" to chown(2)
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) > maxID || int64(h.Gid) > maxID {
		return nil, invalidf("owner %d:%d: no such id", h.Uid, h.Gid)
	}
	m := &dirMeta{mode: uint32(h.Mode) & 0o7777, uid: uint32(h.Uid), gid: uint32(h.Gid)}
	atime := h.AccessTime
	if atime.IsZero() {
		atime = h.ModTime
	}
	m.times = [2]unix.Timespec{timespec(atime), timespec(h.ModTime)}
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, paxXattr); ok {
			m.xattrs = append(m.xattrs, xattr{name, v})
		}
	}
	sort.Slice(m.xattrs, func(i, j int) bool { return m.xattrs[i].name < m.xattrs[j].name })
	return m, nil
}

func timespec(t time.Time) unix.Timespec {
	if t.IsZero() {
		return unix.Timespec{}
	}
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

// metaBelow takes them from a file of a layer below.
func (u *unpacker) metaBelow(low lower, name string) (*dirMeta, error) {
	m := &dirMeta{mode: low.st.Mode & 0o7777, uid: low.st.Uid, gid: low.st.Gid, times: [2]unix.Timespec{low.st.Atim, low.st.Mtim}}
	if kind := low.st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return m, nil
	}
	fd, err := openBeneath(low.dir, name, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	m.xattrs, err = readXattrs(fmt.Sprintf("/proc/self/fd/%d", fd))
	return m, err
}

func readXattrs(path string) ([]xattr, error) {
	buf := make([]byte, 64<<10) // XATTR_LIST_MAX, XATTR_SIZE_MAX
	n, err := unix.Listxattr(path, buf)
	if err == unix.EOPNOTSUPP || n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []xattr
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		n, err := unix.Getxattr(path, name, buf)
		if err != nil {
			return nil, err
		}
		list = append(list, xattr{name, string(buf[:n])})
	}
	return list, nil
}

// defaultMeta are the attributes of a directory that neither this layer nor one below describes.
func defaultMeta() *dirMeta { return &dirMeta{mode: 0o755} }

// setFile sets the attributes of a regular file or a directory, in the order that the kernel wants: chown(2) clears
// setuid and capabilities, and user attributes need the write permission that chmod may take from an ordinary user.
func (u *unpacker) setFile(f file, m *dirMeta) error {
	if u.root {
		if err := unix.Fchown(f.fd, int(m.uid), int(m.gid)); err != nil {
			return err
		}
	}
	for _, x := range m.xattrs {
		if err := u.setXattr(f, x); err != nil {
			return err
		}
	}
	if f.opaque {
		if err := u.setOpaque(f.fd); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(f.fd, m.mode); err != nil {
		return err
	}
	return futimens(f.fd, m.times)
}

// file is an open file of the layer; dir and name say where, for Layer.Omitted.
type file struct {
	dir    *node
	name   string
	fd     int
	opaque bool
}

func (u *unpacker) setXattr(f file, x xattr) error {
	if strings.HasPrefix(x.name, "trusted.overlay.") || strings.HasPrefix(x.name, "user.overlay.") {
		// Orders to overlayfs, such as a redirect to another file, are not an image's to give.
		return nil
	}
	if !imageXattr(x.name) {
		u.omit(f.dir, f.name, shorten(x.name))
		return nil
	}
	err := unix.Fsetxattr(f.fd, x.name, []byte(x.value), 0)
	if err == unix.EPERM || err == unix.EOPNOTSUPP {
		u.omit(f.dir, f.name, shorten(x.name))
		return nil
	}
	if err != nil {
		return fmt.Errorf("setxattr %q: %w", shorten(x.name), err)
	}
	return nil
}

// futimens is utimensat(2) with a null path: it needs no permission on a directory to look "." up.
func futimens(fd int, t [2]unix.Timespec) error {
	_, _, e := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&t)), 0, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// imageXattr is the list of attributes that an image may set. Labels of SELinux, IMA and EVM are the host's.
func imageXattr(name string) bool {
	switch name {
	case "security.capability", "system.posix_acl_access", "system.posix_acl_default":
		return true
	}
	return strings.HasPrefix(name, "user.")
}

// setNode sets owner and times of what can't be opened without a side effect. Attributes exist on files and directories only.
func (u *unpacker) setNode(dir *node, dirfd int, name string, m *dirMeta) error {
	for _, x := range m.xattrs {
		u.omit(dir, name, shorten(x.name))
	}
	if u.root {
		if err := unix.Fchownat(dirfd, name, int(m.uid), int(m.gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(dirfd, name, m.times[:], unix.AT_SYMLINK_NOFOLLOW)
}

// chmodAt changes a fifo's or device's mode by a descriptor that is only a path, so that nothing is opened: fchmodat(2)
// has a no-follow flag only since Linux 6.6.
func chmodAt(dirfd int, name string, mode uint32) error {
	fd, err := openBeneath(dirfd, name, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode)
}

// finish applies whiteouts, takes out what is not to be seen, and sets the attributes of directories, deepest first: a
// directory's time changes with what is made in it, and its mode may forbid that.
func (u *unpacker) finish() error {
	if err := u.applyWhiteouts(); err != nil {
		return err
	}
	for _, h := range u.hidden {
		// Its directory may have been replaced since, and then it is gone with it.
		if u.tree.has(h.dir) {
			if err := u.clear(h.dir, h.name); err != nil {
				return err
			}
		}
	}
	return u.finishDir(u.tree.root)
}

// has reports whether a node is still part of the tree.
func (t *tree) has(n *node) bool {
	for ; n.parent != nil; n = n.parent {
		if n.parent.kids[n.name] != n {
			return false
		}
	}
	return n == t.root
}

func (u *unpacker) finishDir(n *node) error {
	for name, k := range n.kids {
		if strings.HasPrefix(name, whMeta) {
			if err := u.clear(n, name); err != nil {
				return err
			}
			continue
		}
		if err := u.finishDir(k); err != nil {
			return err
		}
	}
	if u.ctx.Err() != nil {
		return u.ctx.Err()
	}
	fd, err := u.tree.dir(n)
	if err != nil {
		return err
	}
	m := n.meta
	if m == nil {
		m = defaultMeta()
	}
	if err := u.setFile(file{dir: n, name: ".", fd: fd, opaque: n.opaque}, m); err != nil {
		return u.explain(n.join("."), err)
	}
	u.tree.shut(n)
	return nil
}

func (u *unpacker) setOpaque(fd int) error {
	for _, attr := range opaqueAttrs {
		if !u.root && strings.HasPrefix(attr, "trusted.") {
			continue
		}
		if err := unix.Fsetxattr(fd, attr, []byte{'y'}, 0); err != nil {
			// tmpfs has user attributes since Linux 6.6 only; root's own overlay does without them.
			if err == unix.EOPNOTSUPP && u.root && strings.HasPrefix(attr, "user.") {
				continue
			}
			return fmt.Errorf("setxattr %q: %w", attr, err)
		}
	}
	return nil
}
