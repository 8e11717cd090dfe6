package rootfs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// renameTries bounds how long somebody who renames all the time can keep us busy.
const renameTries = 1000

// A call is the program of one method of a Root. Its child has the ids of the Root's user.
type call struct {
	*spawn.Program
	top spawn.Ref
	in  []spawn.Ref // the other descriptors that the method needs
}

// call runs a program. It is run again when something was renamed or mounted anywhere on the machine while a name with
// ".." in it, or in a link of it, was resolved (EAGAIN, openat2(2)), or the file is under a lease (fcntl(2)).
func (r *Root) call(ctx context.Context, in []int, build func(c *call)) (fds []int, p *spawn.Program, err error) {
	if r.dir == nil {
		return nil, nil, os.ErrClosed
	}
	for range renameTries {
		err = useFile(r.dir, func(dir int) error {
			return useFile(r.userns, func(user int) (err error) {
				fds, p, err = spawn.Run(ctx, func(p *spawn.Program) { build(r.begin(p, dir, user, in)) })
				return err
			})
		})
		if !errors.Is(err, unix.EAGAIN) {
			break
		}
	}
	return fds, p, err
}

// begin adds what comes first: the descriptors, which a child with other ids could not fetch.
func (r *Root) begin(p *spawn.Program, dir, user int, in []int) *call {
	c := &call{Program: p, top: p.Input(dir)}
	for _, fd := range in {
		c.in = append(c.in, p.Input(fd))
	}
	if user >= 0 {
		p.EnterUserNS(p.Input(user))
		p.SetIDs(spawn.IDs{UID: r.uid, GID: r.gid, KeepGroups: true})
	}
	p.Do("umask", "", unix.SYS_UMASK, 0)
	return c
}

// pathError is what a method returns: of a call that failed the kernel's answer alone, where it is about a name.
func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: answer(err)}
}

func answer(err error) error {
	var e *spawn.Error
	if errors.As(err, &e) && e.Path != "" && e.Errno != 0 {
		return e.Errno
	}
	return err
}

// useFile calls f with the descriptor of file, which a Close can't take away meanwhile; -1 for none.
func useFile(file *os.File, f func(fd int) error) error {
	if file == nil {
		return f(-1)
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := raw.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return os.ErrClosed
	}
	return err
}

// open adds the opening of a clean name.
func (c *call) open(name string, flags int, mode uint32) spawn.Ref {
	return c.openAt(c.top, name, flags, mode, unix.RESOLVE_IN_ROOT)
}

func (c *call) openAt(dir spawn.Ref, name string, flags int, mode uint32, resolve uintptr) spawn.Ref {
	how := c.Words(uintptr(flags|unix.O_CLOEXEC), uintptr(mode), resolve|unix.RESOLVE_NO_MAGICLINKS)
	return c.Do("openat2", name, unix.SYS_OPENAT2, dir, name, how, 24)
}

// place opens where a name is, or would be.
func (c *call) place(name string) (dir spawn.Ref, base string) {
	return c.open(path.Dir(name), unix.O_PATH|unix.O_DIRECTORY, 0), path.Base(name)
}

// object opens what has a name, without a look into it.
func (c *call) object(name string, flags int) spawn.Ref { return c.open(name, unix.O_PATH|flags, 0) }

// stat adds statx(2) of an open file into st.
func (c *call) stat(fd spawn.Ref, name string, st *unix.Statx_t) {
	c.Do("statx", name, unix.SYS_STATX, fd, "", unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, c.Pinned(statBytes(st)))
}

func statBytes(st *unix.Statx_t) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(st)), unsafe.Sizeof(*st))
}

// do is a method that has one result: whether it worked.
func (r *Root) do(op, name string, build func(c *call, name string)) error {
	name = clean(name)
	_, _, err := r.call(context.Background(), nil, func(c *call) { build(c, name) })
	return pathError(op, name, err)
}

// at is do for one that changes the directory which a name is in.
func (r *Root) at(op, name string, build func(c *call, dir spawn.Ref, base, name string)) error {
	if name = clean(name); name == "/" {
		return pathError(op, name, errTop)
	}
	return r.do(op, name, func(c *call, name string) {
		dir, base := c.place(name)
		build(c, dir, base, name)
	})
}

// Open opens a regular file for reading.
func (r *Root) Open(name string) (*os.File, error) { return r.OpenFile(name, os.O_RDONLY, 0) }

// Create makes a regular file with mode 0666, or truncates the one that is there.
func (r *Root) Create(name string) (*os.File, error) {
	return r.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
}

// openFlags are what os.OpenFile knows.
const openFlags = os.O_RDONLY | os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREATE | os.O_EXCL | os.O_SYNC | os.O_TRUNC

// OpenFile opens or makes a regular file as os.OpenFile does. What else there is at that name is an fs.ErrInvalid, a
// directory syscall.EISDIR. The File's Stat has ids as this program sees them.
func (r *Root) OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	name = clean(name)
	if flag&^openFlags != 0 {
		return nil, pathError("open", name, errFlag)
	}
	fds, _, err := r.call(context.Background(), nil, func(c *call) {
		// (openat2 refuses a mode without O_CREAT.)
		var mode uint32
		if flag&os.O_CREATE != 0 {
			mode = modeBits(perm)
		}
		c.Send(c.open(name, flag|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_LARGEFILE, mode))
	})
	if errors.Is(err, unix.ENXIO) { // a FIFO without a reader, a socket
		err = errNotFile
	}
	if err != nil {
		return nil, pathError("open", name, err)
	}
	if err := regular(fds[0]); err != nil {
		unix.Close(fds[0])
		return nil, pathError("open", name, err)
	}
	return os.NewFile(uintptr(fds[0]), name), nil
}

func regular(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return nil
	case unix.S_IFDIR:
		return errors.Join(unix.EISDIR, errIsDir)
	}
	return errNotFile
}

// ReadFile returns the content of a regular file, MaxReadFile at most: a larger one is a *LimitError.
func (r *Root) ReadFile(name string) ([]byte, error) {
	f, err := r.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	tooLarge := &LimitError{"bytes of a file", MaxReadFile}
	if info, err := f.Stat(); err == nil && info.Size() > MaxReadFile {
		return nil, pathError("read", clean(name), tooLarge)
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxReadFile+1))
	if err == nil && len(b) > MaxReadFile {
		err = tooLarge
	}
	if err != nil {
		return nil, pathError("read", clean(name), err)
	}
	return b, nil
}

// WriteFile writes a regular file, which it makes with that mode or truncates.
func (r *Root) WriteFile(name string, data []byte, perm fs.FileMode) error {
	f, err := r.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// Stat describes what a name leads to. The FileInfo's Sys is a *unix.Statx_t.
func (r *Root) Stat(name string) (fs.FileInfo, error) { return r.stat("stat", name, 0) }

// Lstat is Stat for a link itself.
func (r *Root) Lstat(name string) (fs.FileInfo, error) { return r.stat("lstat", name, unix.O_NOFOLLOW) }

func (r *Root) stat(op, name string, flags int) (fs.FileInfo, error) {
	info := newInfo(clean(name))
	err := r.do(op, name, func(c *call, name string) { c.stat(c.object(name, flags), name, &info.st) })
	if err != nil {
		return nil, err
	}
	return info, nil
}

// statOpen describes an open file.
func (r *Root) statOpen(name string, f *os.File) (fs.FileInfo, error) {
	info := newInfo(clean(name))
	_, _, err := r.call(context.Background(), []int{int(f.Fd())}, func(c *call) { c.stat(c.in[0], name, &info.st) })
	if err != nil {
		return nil, pathError("stat", clean(name), err)
	}
	return info, nil
}

// Readlink returns where a symbolic link leads to.
func (r *Root) Readlink(name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	var n spawn.Ref
	var p *spawn.Program
	name = clean(name)
	_, p, err := r.call(context.Background(), nil, func(c *call) {
		n = c.readlink(c.object(name, unix.O_NOFOLLOW), "", name, buf)
	})
	if errors.Is(err, unix.ENOENT) { // an empty name and no link
		if _, lerr := r.Lstat(name); lerr == nil {
			err = unix.EINVAL
		}
	}
	if err != nil {
		return "", pathError("readlink", name, err)
	}
	return string(buf[:p.Result(n)]), nil
}

func (c *call) readlink(dir spawn.Ref, base, name string, buf []byte) spawn.Ref {
	return c.Do("readlink", name, unix.SYS_READLINKAT, dir, base, c.Pinned(buf), len(buf))
}

// Mkdir makes a directory.
func (r *Root) Mkdir(name string, perm fs.FileMode) error {
	return r.at("mkdir", name, func(c *call, dir spawn.Ref, base, name string) {
		c.Do("mkdir", name, unix.SYS_MKDIRAT, dir, base, int(modeBits(perm)))
	})
}

// MkdirAll makes a directory and those above it that are not there.
func (r *Root) MkdirAll(name string, perm fs.FileMode) error {
	return r.do("mkdir", name, func(c *call, name string) {
		for i := 1; i < len(name); i++ {
			if name[i] == '/' {
				c.mkdir(name[:i], perm)
			}
		}
		if name != "/" {
			c.mkdir(name, perm)
		}
		c.object(name, unix.O_DIRECTORY)
	})
}

// mkdir makes one that may be there.
func (c *call) mkdir(name string, perm fs.FileMode) {
	dir, base := c.place(name)
	c.Try("mkdir", name, unix.SYS_MKDIRAT, dir, base, int(modeBits(perm)))
	c.Try("close", name, unix.SYS_CLOSE, dir)
}

// Remove removes a file or an empty directory.
func (r *Root) Remove(name string) error {
	err := r.unlink(name, 0)
	if errors.Is(err, unix.EISDIR) {
		err = r.unlink(name, unix.AT_REMOVEDIR)
	}
	return err
}

func (r *Root) unlink(name string, flags int) error {
	return r.at("remove", name, func(c *call, dir spawn.Ref, base, name string) {
		c.Do("unlink", name, unix.SYS_UNLINKAT, dir, base, flags)
	})
}

// Rename renames a file or directory, and replaces what was there as rename(2) does.
func (r *Root) Rename(oldname, newname string) error {
	return r.two("rename", oldname, newname, func(c *call, from, to spawn.Ref, fromBase, toBase string) {
		c.Do("rename", newname, unix.SYS_RENAMEAT2, from, fromBase, to, toBase, 0)
	})
}

// Link makes newname a hard link to oldname, a symbolic link itself if it is one.
func (r *Root) Link(oldname, newname string) error {
	return r.two("link", oldname, newname, func(c *call, from, to spawn.Ref, fromBase, toBase string) {
		c.Do("link", newname, unix.SYS_LINKAT, from, fromBase, to, toBase, 0)
	})
}

func (r *Root) two(op, oldname, newname string, build func(c *call, from, to spawn.Ref, fromBase, toBase string)) error {
	oldname, newname = clean(oldname), clean(newname)
	err := errTop
	if oldname != "/" && newname != "/" {
		_, _, err = r.call(context.Background(), nil, func(c *call) {
			from, fromBase := c.place(oldname)
			to, toBase := c.place(newname)
			build(c, from, to, fromBase, toBase)
		})
	}
	if err != nil {
		return &os.LinkError{Op: op, Old: oldname, New: newname, Err: answer(err)}
	}
	return nil
}

// Symlink makes newname a symbolic link with that text, which may lead anywhere.
func (r *Root) Symlink(oldname, newname string) error {
	err := r.at("symlink", newname, func(c *call, dir spawn.Ref, base, name string) {
		c.Do("symlink", name, unix.SYS_SYMLINKAT, oldname, dir, base)
	})
	var e *fs.PathError
	if errors.As(err, &e) {
		return &os.LinkError{Op: e.Op, Old: oldname, New: e.Path, Err: e.Err}
	}
	return err
}

// Chmod changes the mode of what a name leads to. Before Linux 6.6 that must be a regular file or a directory.
func (r *Root) Chmod(name string, mode fs.FileMode) error {
	err := r.do("chmod", name, func(c *call, name string) {
		c.Do("fchmodat2", name, unix.SYS_FCHMODAT2, c.object(name, 0), "", int(modeBits(mode)), unix.AT_EMPTY_PATH)
	})
	if !errors.Is(err, unix.ENOSYS) {
		return err
	}
	// A directory, or a regular file.
	err = r.do("chmod", name, func(c *call, name string) {
		fd := c.open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		c.Do("fchmod", name, unix.SYS_FCHMOD, fd, int(modeBits(mode)))
	})
	if !errors.Is(err, unix.ENOTDIR) {
		return err
	}
	f, err := r.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, _, err = r.call(context.Background(), []int{int(f.Fd())}, func(c *call) {
		c.Do("fchmod", name, unix.SYS_FCHMOD, c.in[0], int(modeBits(mode)))
	})
	return pathError("chmod", clean(name), err)
}

// Chown changes owner and group of what a name leads to; -1 leaves one as it is.
func (r *Root) Chown(name string, uid, gid int) error { return r.chown("chown", name, uid, gid, 0) }

// Lchown is Chown for a link itself.
func (r *Root) Lchown(name string, uid, gid int) error {
	return r.chown("lchown", name, uid, gid, unix.O_NOFOLLOW)
}

func (r *Root) chown(op, name string, uid, gid, flags int) error {
	return r.do(op, name, func(c *call, name string) {
		c.Do("chown", name, unix.SYS_FCHOWNAT, c.object(name, flags), "", uid, gid, unix.AT_EMPTY_PATH)
	})
}

// Chtimes changes the times of what a name leads to; a zero time leaves one as it is.
func (r *Root) Chtimes(name string, atime, mtime time.Time) error {
	return r.do("chtimes", name, func(c *call, name string) {
		c.Do("utimensat", name, unix.SYS_UTIMENSAT, c.object(name, 0), "", c.times(atime, mtime), unix.AT_EMPTY_PATH)
	})
}

// times are two struct timespec.
func (c *call) times(atime, mtime time.Time) uintptr {
	var w [4]uintptr
	for i, t := range []time.Time{atime, mtime} {
		w[2*i], w[2*i+1] = uintptr(t.Unix()), uintptr(t.Nanosecond())
		if t.IsZero() {
			w[2*i], w[2*i+1] = 0, unix.UTIME_OMIT
		}
	}
	return c.Words(w[:]...)
}

// ReadDir lists a directory, sorted by name, MaxDirEntries at most: more are a *LimitError.
func (r *Root) ReadDir(name string) ([]fs.DirEntry, error) {
	name = clean(name)
	fds, _, err := r.call(context.Background(), nil, func(c *call) {
		c.Send(c.open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0))
	})
	if err != nil {
		return nil, pathError("open", name, err)
	}
	defer unix.Close(fds[0])
	list, err := readDir(context.Background(), fds[0], MaxDirEntries)
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	entries := make([]fs.DirEntry, len(list))
	for i, d := range list {
		entries[i] = &dirEntry{r, strings.TrimSuffix(name, "/") + "/" + d.name, d.kind}
	}
	return entries, nil
}
