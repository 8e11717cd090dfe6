package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// CopyOut writes a directory and all in it, or a file, to w as a tar archive (pax, POSIX.1-2001): names are relative to
// the directory, which comes first as "./"; a file has its own. Owners are ids of the Root's user namespace. Links are
// copied as links, also hard ones. Sockets are left out, and so are devices, extended attributes and what is below a
// mount of the kernel's (proc, sysfs, devpts, mqueue, cgroup); all others are gone into.
//
// Who works in the tree meanwhile can't lead the copy out of it, and can't keep it: what vanished is left out, a file
// is copied at the size that it had when it was opened, filled up with zeros if it is cut. More than MaxBytes,
// MaxEntries or MaxCopyDepth is a *LimitError. It ends early with ctx, but for a Write of w's that blocks.
//
// To copy to a directory of the host's, give the archive to CopyIn of a Root that [NewRoot] made of that directory: see the
// example. The programs of the tree keep set-user-ID there, as that Root's user. Where nobody works in the tree any more,
// os.CopyFS of FS and fs.Sub does, without these bits, times and bounds. (For a name that is replaced while its directory is
// read readdir(3p) promises nothing: did it come twice, as a link and as a directory, CopyFS would write through the link. We
// have not seen it.) Either copies symbolic links as they are: on the host they lead where the tree's users like.
func (r *Root) CopyOut(ctx context.Context, name string, w io.Writer, o CopyOptions) error {
	name = clean(name)
	c := &copyOut{r: r, ctx: ctx, tar: tar.NewWriter(w), links: map[inode]string{}}
	c.bytes, c.entries = o.bounds()
	c.mostBytes, c.mostEntries = c.bytes, c.entries
	return pathError("copy out", name, c.all(name))
}

// CopyLayer writes the changes that an overlayfs has put into its upper directory, which is the Root's tree, to w as a layer
// of an image (layer.md of the OCI image specification): as CopyOut, with ".wh.NAME" for a name that was removed from the
// layers below and ".wh..wh..opq" for a directory that was replaced. The ids must be those of the Root's user namespace.
// A file that has one of these names is an fs.ErrInvalid: no layer can say that it is there. Names that skip says, relative to the top, are left out, with all below them. The overlay may be in use: what is
// changed meanwhile is in the layer or not.
func (r *Root) CopyLayer(ctx context.Context, w io.Writer, skip func(name string) bool) error {
	c := &copyOut{r: r, ctx: ctx, tar: tar.NewWriter(w), links: map[inode]string{}, layer: true, skip: skip}
	c.bytes, c.entries = 1<<62, 1<<62
	c.mostBytes, c.mostEntries = c.bytes, c.entries
	return pathError("copy layer", "/", c.all("/"))
}

type copyOut struct {
	r     *Root
	layer bool                   // of an overlayfs
	skip  func(name string) bool // nil: nothing
	ctx   context.Context
	tar   *tar.Writer
	links map[inode]string // where regular files with several names went

	bytes, entries         int64 // that may still come
	mostBytes, mostEntries int64
}

type inode struct {
	major, minor uint32
	number       uint64
}

func (c *copyOut) all(name string) error {
	top := &node{child: child{name: path.Base(name), kind: unix.DT_UNKNOWN}, fd: -1}
	_, _, err := c.r.call(c.ctx, nil, func(k *call) { k.stat(k.object(name, 0), name, &top.st) })
	if err != nil {
		return err
	}
	if top.st.Mode&unix.S_IFMT == unix.S_IFDIR {
		top.name = "."
		fds, _, err := c.r.call(c.ctx, nil, func(k *call) { k.Send(k.open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)) })
		if err == nil {
			err = errors.Join(c.entry("", top), c.content("", fds[0], 0))
		}
		return c.end(err)
	}
	f, err := c.r.Open(name)
	if err != nil {
		return errors.Unwrap(err)
	}
	defer f.Close()
	info, err := c.r.statOpen(name, f)
	if err != nil {
		return err
	}
	top.st, top.fd = info.(*fileInfo).st, int(f.Fd())
	return c.end(c.entry("", top))
}

// end writes the end of an archive that is whole: of another one a reader must not take it for all there was.
func (c *copyOut) end(err error) error {
	if err != nil {
		return err
	}
	return c.tar.Close()
}

// A node is a name in a directory, looked at.
type node struct {
	child
	st   unix.Statx_t
	link string // of a symbolic link
	fd   int    // of a regular file; -1: it is none, or gone

	seen, opened, read spawn.Ref
	text               []byte
}

// lookBatch is how many names one child looks at.
const lookBatch = 32

// content copies what is in a directory, whose descriptor it closes: files first, so that no more than one directory
// of each level is open while the next is gone into.
func (c *copyOut) content(prefix string, dir, depth int) error {
	defer unix.Close(dir)
	if depth > MaxCopyDepth {
		return &LimitError{"depth", MaxCopyDepth}
	}
	if ofTheKernel(dir) {
		return nil
	}
	names, err := readDir(c.ctx, dir, c.entries)
	if err != nil {
		return c.limit(err)
	}
	if c.skip != nil {
		names = slices.DeleteFunc(names, func(n child) bool { return c.skip(prefix + n.name) })
	}
	if c.layer && prefix != "" {
		if err := c.opaque(prefix, dir); err != nil {
			return err
		}
	}
	var dirs []*node
	for len(names) > 0 {
		n := min(lookBatch, len(names))
		nodes, err := c.look(dir, names[:n])
		names = names[n:]
		for _, d := range nodes {
			if err == nil && d.st.Mode&unix.S_IFMT == unix.S_IFDIR {
				dirs = append(dirs, d)
			} else if err == nil {
				err = c.entry(prefix, d)
			}
			if d.fd >= 0 {
				unix.Close(d.fd)
			}
		}
		if err != nil {
			return err
		}
	}
	for _, d := range dirs {
		if err := c.directory(prefix, dir, d, depth); err != nil {
			return err
		}
	}
	return nil
}

func (c *copyOut) directory(prefix string, dir int, d *node, depth int) error {
	fds, _, err := c.r.call(c.ctx, []int{dir}, func(k *call) {
		k.Send(k.openAt(k.in[0], d.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0, unix.RESOLVE_BENEATH))
	})
	switch {
	case gone(err):
		return nil
	case err != nil:
		return fmt.Errorf("%s%s: %w", prefix, d.name, err)
	}
	if err := c.entry(prefix, d); err != nil {
		unix.Close(fds[0])
		return err
	}
	return c.content(prefix+d.name+"/", fds[0], depth+1)
}

// gone says whether a name is not there any more, or stands for something else.
func gone(err error) bool {
	for _, e := range []error{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ENXIO, unix.ESTALE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// look describes names of a directory, and opens those that are regular files.
func (c *copyOut) look(dir int, names []child) ([]*node, error) {
	if err := c.tell(dir, names); err != nil {
		return nil, err
	}
	var nodes []*node
	build := func(k *call) {
		nodes = nil
		for _, n := range names {
			d := &node{child: n, fd: -1, opened: spawn.NoRef, read: spawn.NoRef}
			nodes = append(nodes, d)
			if n.kind == unix.DT_REG {
				k.file(d)
				continue
			}
			d.seen = k.look(n.name, &d.st)
			if n.kind == unix.DT_LNK {
				d.text = make([]byte, unix.PathMax)
				d.read = k.Try("readlink", n.name, unix.SYS_READLINKAT, k.in[0], n.name, k.Pinned(d.text), len(d.text))
			}
		}
	}
	fds, p, err := c.r.call(c.ctx, []int{dir}, build)
	if err != nil {
		return nil, err
	}
	for _, d := range nodes {
		if d.opened != spawn.NoRef && p.Result(d.opened) >= 0 {
			d.fd, fds = fds[0], fds[1:]
		}
		if d.read != spawn.NoRef {
			d.link, d.text = string(d.text[:max(p.Result(d.read), 0)]), nil
		}
	}
	var there []*node
	for _, d := range nodes {
		last := d.seen
		if d.opened != spawn.NoRef && d.fd < 0 {
			last = d.opened
		}
		n := p.Result(last)
		if n >= 0 {
			there = append(there, d)
		} else if e := syscall.Errno(-n); !gone(e) && err == nil {
			err = fmt.Errorf("%s: %w", d.name, e)
		}
	}
	return there, err
}

// tell finds the kinds of names that their file system did not tell (getdents(2)).
func (c *copyOut) tell(dir int, names []child) error {
	for i := range names {
		if names[i].kind != unix.DT_UNKNOWN {
			continue
		}
		var st unix.Statx_t
		_, _, err := c.r.call(c.ctx, []int{dir}, func(k *call) { k.look(names[i].name, &st) })
		if err != nil && !gone(err) {
			return fmt.Errorf("%s: %w", names[i].name, err)
		}
		names[i].kind = uint8(st.Mode >> 12)
	}
	return nil
}

// look describes a name of a directory.
func (c *call) look(name string, st *unix.Statx_t) spawn.Ref {
	return c.Try("statx", name, unix.SYS_STATX, c.in[0], name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, c.Pinned(statBytes(st)))
}

// file opens and describes what is likely to be a regular file, without waiting for anything.
func (c *call) file(d *node) {
	flags := unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC | unix.O_LARGEFILE
	skip := c.Label()
	d.opened = c.Try("open", d.name, unix.SYS_OPENAT, c.in[0], d.name, flags, 0)
	c.Branch(d.opened, skip, spawn.Next, spawn.Next)
	d.seen = c.Do("statx", d.name, unix.SYS_STATX, d.opened, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, c.Pinned(statBytes(&d.st)))
	c.Send(d.opened)
	c.Do("close", d.name, unix.SYS_CLOSE, d.opened)
	c.Mark(skip)
}

// entry writes one to the archive, a regular file with its content.
func (c *copyOut) entry(prefix string, d *node) error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	if c.layer && strings.HasPrefix(d.name, whiteoutPrefix) {
		return fmt.Errorf("%s%s: in a layer the name would remove a file: %w", prefix, d.name, fs.ErrInvalid)
	}
	if c.entries--; c.entries < 0 {
		return &LimitError{"entries", c.mostEntries}
	}
	h := &tar.Header{
		Format: tar.FormatPAX, Name: prefix + d.name, Mode: int64(d.st.Mode & 0o7777), Uid: int(d.st.Uid), Gid: int(d.st.Gid),
		ModTime: time.Unix(d.st.Mtime.Sec, int64(d.st.Mtime.Nsec)),
	}
	switch d.st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
	case unix.S_IFLNK:
		h.Typeflag, h.Linkname = tar.TypeSymlink, d.link
		if d.link == "" {
			return nil
		}
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFREG:
		return c.regular(h, d)
	case unix.S_IFCHR:
		if c.layer && d.st.Rdev_major == 0 && d.st.Rdev_minor == 0 {
			return c.mark(prefix, whiteoutPrefix+d.name)
		}
		return nil
	default:
		return nil
	}
	return c.tar.WriteHeader(h)
}

// whiteoutPrefix begins the names that remove others (layer.md).
const whiteoutPrefix = ".wh."

// mark writes one of the marks of a layer.
func (c *copyOut) mark(prefix, name string) error {
	return c.tar.WriteHeader(&tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeReg, Name: prefix + name, Mode: 0o644})
}

// opaque marks a directory of an upper layer that hides those below. The attribute that root's overlays have is out of reach
// from a user namespace, that of others from outside of it (fs/xattr.c, xattr_permission).
func (c *copyOut) opaque(prefix string, dir int) error {
	value := make([]byte, 8)
	n, err := unix.Fgetxattr(dir, "trusted.overlay.opaque", value)
	if err != nil {
		var get spawn.Ref
		_, p, err := c.r.call(c.ctx, []int{dir}, func(k *call) {
			get = k.Try("fgetxattr", prefix, unix.SYS_FGETXATTR, k.in[0], "user.overlay.opaque", k.Pinned(value), len(value))
		})
		if err != nil {
			return err
		}
		n = p.Result(get)
	}
	if n != 1 || value[0] != 'y' {
		return nil
	}
	return c.mark(prefix, whiteoutPrefix+whiteoutPrefix+".opq")
}

func (c *copyOut) regular(h *tar.Header, d *node) error {
	if d.fd < 0 {
		return nil
	}
	h.Typeflag = tar.TypeReg
	if d.st.Nlink > 1 {
		id := inode{d.st.Dev_major, d.st.Dev_minor, d.st.Ino}
		if first, ok := c.links[id]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return c.tar.WriteHeader(h)
		}
		c.links[id] = h.Name
	}
	h.Size = int64(d.st.Size)
	if c.bytes -= h.Size; c.bytes < 0 {
		return fmt.Errorf("%s: %w", h.Name, &LimitError{"bytes", c.mostBytes})
	}
	if err := c.tar.WriteHeader(h); err != nil {
		return err
	}
	fd, err := unix.FcntlInt(uintptr(d.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), h.Name)
	defer f.Close()
	n, err := io.Copy(c.tar, io.LimitReader(&ctxReader{c.ctx, f}, h.Size))
	if err == nil && n < h.Size {
		_, err = io.CopyN(c.tar, &ctxReader{c.ctx, zeros{}}, h.Size-n)
	}
	return err
}

func (c *copyOut) limit(err error) error {
	var e *LimitError
	if errors.As(err, &e) {
		return &LimitError{"entries", c.mostEntries}
	}
	return err
}

// zeros is what a file lacks that was cut.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// A ctxReader ends with its context.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *ctxReader) Read(b []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(b)
}

// ofTheKernel says whether a directory shows the kernel's state in place of files.
func ofTheKernel(dir int) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(dir, &st) != nil {
		return true
	}
	switch int64(st.Type) {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.DEVPTS_SUPER_MAGIC, mqueueMagic, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC:
		return true
	}
	return false
}

const mqueueMagic = 0x19800202 // MQUEUE_MAGIC in ipc/mqueue.c
