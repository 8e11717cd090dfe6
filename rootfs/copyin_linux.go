package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// CopyIn unpacks a tar archive into the directory dir, which must be there. Files replace those of the same name, links
// themselves and not what they lead to; directories stay and get owner, mode and time of the archive's,
// at the end, but for dir itself.
// Directories that the archive has no entry for are made with mode 0755. Extended attributes are not copied.
//
// Nothing outside of dir is written to, whatever the archive says and whoever renames or links in the tree meanwhile
// (openat2(2), RESOLVE_BENEATH): a symbolic link that leads out of dir is an EXDEV. A device, a name with "..", an archive
// that is cut short and one with more than MaxBytes or MaxEntries are errors, too. What was unpacked before an error
// stays. It ends early with ctx, but for a Read of src's that blocks.
//
// A directory of the host's is copied by CopyFS, as the FS of an [os.Root] or, where nobody else changes it, os.DirFS.
func (r *Root) CopyIn(ctx context.Context, dir string, src io.Reader, o CopyOptions) error {
	dir = clean(dir)
	fds, _, err := r.call(ctx, nil, func(c *call) { c.Send(c.open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)) })
	if err != nil {
		return pathError("copy in", dir, err)
	}
	defer unix.Close(fds[0])
	c := &copyIn{r: r, ctx: ctx, dir: fds[0], o: o, made: map[string]bool{".": true}}
	return pathError("copy in", dir, c.all(tar.NewReader(&ctxReader{ctx, src})))
}

// CopyFS copies a file system into the directory dir as CopyIn does: directories, regular files and, where it is a
// [fs.ReadLinkFS], symbolic links. Others are errors.
func (r *Root) CopyFS(ctx context.Context, dir string, fsys fs.FS, o CopyOptions) error {
	read, write := io.Pipe()
	go func() { // ends when the reader closes
		w := tar.NewWriter(write)
		err := w.AddFS(fsys)
		if err == nil { // else its end would be taken for that of the tree
			err = w.Close()
		}
		write.CloseWithError(err)
	}()
	err := r.CopyIn(ctx, dir, read, o)
	read.Close()
	return err
}

type copyIn struct {
	r    *Root
	ctx  context.Context
	dir  int
	o    CopyOptions
	made map[string]bool // directories that were made, or seen

	batch []*arrival
	size  int // of the data in it
	dirs  []*arrival
}

// An arrival is one entry of the archive.
type arrival struct {
	*tar.Header
	name, link string // in dir
	data       []byte
	implied    []string  // directories above it that nothing was said of
	wrote      spawn.Ref // of data
}

// What one child unpacks at most: so many entries, and so many bytes but for the last.
const (
	batchEntries = 48
	batchBytes   = 1 << 20
)

func (c *copyIn) all(archive *tar.Reader) error {
	bytes, entries := c.o.bounds()
	left := bytes
	for n := int64(0); ; n++ {
		h, err := archive.Next()
		if err == io.EOF {
			return errors.Join(c.flush(), c.directories())
		}
		if err != nil {
			return errors.Join(c.flush(), err)
		}
		if n == entries {
			return &LimitError{"entries", entries}
		}
		if left -= h.Size; left < 0 {
			return fmt.Errorf("%q: %w", h.Name, &LimitError{"bytes", bytes})
		}
		if err := c.entry(h, archive); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
}

// within makes a name of the archive one in dir.
func within(name string) (string, error) {
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("a name with ..: %w", fs.ErrInvalid)
		}
	}
	if strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("a name with a NUL byte: %w", fs.ErrInvalid)
	}
	return path.Clean(strings.TrimLeft(name, "/")), nil
}

func (c *copyIn) entry(h *tar.Header, data io.Reader) (err error) {
	a := &arrival{Header: h, wrote: spawn.NoRef}
	if a.name, err = within(h.Name); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir, tar.TypeSymlink, tar.TypeFifo, tar.TypeReg:
	case tar.TypeLink:
		if a.link, err = within(h.Linkname); err != nil {
			return err
		}
	default:
		return fmt.Errorf("an entry of type %q: %w", h.Typeflag, errors.ErrUnsupported)
	}
	if a.name == "." {
		if h.Typeflag == tar.TypeDir {
			return nil
		}
		return errTop
	}
	for i, b := range a.name {
		if b == '/' && !c.made[a.name[:i]] {
			a.implied, c.made[a.name[:i]] = append(a.implied, a.name[:i]), true
		}
	}
	if h.Typeflag == tar.TypeDir {
		c.made[a.name] = true
		c.dirs = append(c.dirs, a)
	}
	if h.Size > batchBytes {
		return c.large(a, data)
	}
	if h.Size > 0 {
		if a.data, err = io.ReadAll(data); err != nil {
			return err
		}
	}
	c.batch, c.size = append(c.batch, a), c.size+len(a.data)
	if len(c.batch) == batchEntries || c.size > batchBytes {
		return c.flush()
	}
	return nil
}

// flush has what was collected unpacked by one child.
func (c *copyIn) flush() error {
	batch := c.batch
	c.batch, c.size = nil, 0
	if len(batch) == 0 {
		return nil
	}
	_, p, err := c.r.call(c.ctx, []int{c.dir}, func(k *call) {
		for _, a := range batch {
			c.unpack(k, a)
		}
	})
	for _, a := range batch {
		if err == nil && a.wrote != spawn.NoRef && p.Result(a.wrote) != len(a.data) {
			err = fmt.Errorf("%q: written %d bytes of %d: %w", a.name, p.Result(a.wrote), len(a.data), unix.ENOSPC)
		}
	}
	return named(err)
}

// named has the entry in the error of a call.
func named(err error) error {
	var e *spawn.Error
	if errors.As(err, &e) && e.Path != "" && e.Errno != 0 {
		return fmt.Errorf("%q: %s: %w", e.Path, e.Op, e.Errno)
	}
	return err
}

// unpack adds the calls for an entry.
func (c *copyIn) unpack(k *call, a *arrival) {
	dir, base := k.clear(a)
	switch a.Typeflag {
	case tar.TypeDir:
		k.Try("mkdir", a.name, unix.SYS_MKDIRAT, dir, base, 0o700)
		fd := k.Do("open", a.name, unix.SYS_OPENAT, dir, base, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		k.Do("close", a.name, unix.SYS_CLOSE, fd)
	case tar.TypeReg:
		fd := k.create(dir, base, a)
		if len(a.data) > 0 {
			a.wrote = k.Do("write", a.name, unix.SYS_WRITE, fd, k.Pinned(a.data), len(a.data))
		}
		c.finish(k, fd, a)
		k.Do("close", a.name, unix.SYS_CLOSE, fd)
	case tar.TypeLink:
		from := k.beneath(path.Dir(a.link))
		k.Do("link", a.name, unix.SYS_LINKAT, from, path.Base(a.link), dir, base, 0)
		k.Do("close", a.name, unix.SYS_CLOSE, from)
	case tar.TypeSymlink:
		k.Do("symlink", a.name, unix.SYS_SYMLINKAT, a.Linkname, dir, base)
		c.attributesAt(k, dir, base, a)
	case tar.TypeFifo:
		k.Do("mknod", a.name, unix.SYS_MKNODAT, dir, base, unix.S_IFIFO|int(a.Mode&0o777), 0)
		c.attributesAt(k, dir, base, a)
	}
	k.Do("close", a.name, unix.SYS_CLOSE, dir)
}

// beneath opens a directory in the one that is copied to.
func (c *call) beneath(name string) spawn.Ref {
	return c.openAt(c.in[0], name, unix.O_PATH|unix.O_DIRECTORY, 0, unix.RESOLVE_BENEATH)
}

// clear makes room for an entry, and opens the directory that it goes to.
func (c *call) clear(a *arrival) (dir spawn.Ref, base string) {
	for _, name := range a.implied {
		above := c.beneath(path.Dir(name))
		c.Try("mkdir", name, unix.SYS_MKDIRAT, above, path.Base(name), 0o755)
		c.Do("close", name, unix.SYS_CLOSE, above)
	}
	dir, base = c.beneath(path.Dir(a.name)), path.Base(a.name)
	c.Try("unlink", a.name, unix.SYS_UNLINKAT, dir, base, 0) // a directory stays
	return dir, base
}

// create makes a new regular file: what somebody puts at that name meanwhile is not written to.
func (c *call) create(dir spawn.Ref, base string, a *arrival) spawn.Ref {
	return c.Do("create", a.name, unix.SYS_OPENAT, dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
}

func (c *copyIn) owner(a *arrival) (uid, gid int) {
	if c.o.KeepOwner {
		return a.Uid, a.Gid
	}
	return c.r.uid, c.r.gid
}

// finish adds what a file is to look like. The mode comes after the owner, whose change takes set-user-ID from it.
func (c *copyIn) finish(k *call, fd spawn.Ref, a *arrival) {
	uid, gid := c.owner(a)
	k.Do("chown", a.name, unix.SYS_FCHOWN, fd, uid, gid)
	k.Do("chmod", a.name, unix.SYS_FCHMOD, fd, int(a.Mode&0o7777))
	k.Do("utimensat", a.name, unix.SYS_UTIMENSAT, fd, 0, k.times(time.Time{}, a.ModTime), 0)
}

func (c *copyIn) attributesAt(k *call, dir spawn.Ref, base string, a *arrival) {
	uid, gid := c.owner(a)
	k.Do("chown", a.name, unix.SYS_FCHOWNAT, dir, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	k.Do("utimensat", a.name, unix.SYS_UTIMENSAT, dir, base, k.times(time.Time{}, a.ModTime), unix.AT_SYMLINK_NOFOLLOW)
}

// large copies what is not to be held in memory.
func (c *copyIn) large(a *arrival, data io.Reader) error {
	if err := c.flush(); err != nil {
		return err
	}
	fds, _, err := c.r.call(c.ctx, []int{c.dir}, func(k *call) {
		dir, base := k.clear(a)
		k.Send(k.create(dir, base, a))
	})
	if err != nil {
		return err
	}
	defer unix.Close(fds[0])
	if _, err := io.Copy(fdWriter(fds[0]), data); err != nil {
		return err
	}
	_, _, err = c.r.call(c.ctx, fds[:1], func(k *call) { c.finish(k, k.in[0], a) })
	return err
}

// An fdWriter writes to a regular file.
type fdWriter int

func (fd fdWriter) Write(b []byte) (n int, err error) {
	for n < len(b) {
		m, err := unix.Write(int(fd), b[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}

// directories gives them what the archive says of them, the innermost first: now that all is in them its mode may keep us
// out, and nothing changes their times any more.
func (c *copyIn) directories() error {
	for i := len(c.dirs); i > 0; i = max(0, i-batchEntries) {
		_, _, err := c.r.call(c.ctx, []int{c.dir}, func(k *call) {
			for _, a := range slices.Backward(c.dirs[max(0, i-batchEntries):i]) {
				c.directory(k, a)
			}
		})
		if err != nil {
			return named(err)
		}
	}
	return nil
}

// directory is finish for one that somebody may have removed.
func (c *copyIn) directory(k *call, a *arrival) {
	skip := k.Label()
	how := k.Words(unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_MAGICLINKS)
	fd := k.Try("open", a.name, unix.SYS_OPENAT2, k.in[0], a.name, how, 24)
	k.Branch(fd, skip, spawn.Next, spawn.Next)
	c.finish(k, fd, a)
	k.Do("close", a.name, unix.SYS_CLOSE, fd)
	k.Mark(skip)
}
