package rootfs

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// FS returns the tree as a file system: a [fs.ReadDirFS], [fs.StatFS], [fs.ReadFileFS] and [fs.ReadLinkFS]. Its names are
// those that [fs.ValidPath] allows. Symbolic links are followed in the tree, where they lead. fs.Sub gives the tree below a
// directory.
func (r *Root) FS() fs.FS { return rootFS{r} }

type rootFS struct{ r *Root }

// checked is an error for a name that no fs.FS takes.
func checked(op, name string) error {
	if fs.ValidPath(name) {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
}

// renamed has the name in an error that the caller gave.
func renamed(name string, err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return &fs.PathError{Op: e.Op, Path: name, Err: e.Err}
	}
	return err
}

// Open opens a regular file or a directory.
func (f rootFS) Open(name string) (fs.File, error) {
	if err := checked("open", name); err != nil {
		return nil, err
	}
	file, err := f.r.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, unix.EISDIR) {
		info, err := f.r.Stat(name)
		if err != nil {
			return nil, renamed(name, err)
		}
		return &listedDir{f.r, name, info, nil, false}, nil
	}
	if err != nil {
		return nil, renamed(name, err)
	}
	info, err := f.r.statOpen(name, file)
	if err != nil {
		return nil, errors.Join(renamed(name, err), file.Close())
	}
	return &readFile{file, info}, nil
}

// ReadDir lists a directory.
func (f rootFS) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := checked("readdir", name); err != nil {
		return nil, err
	}
	list, err := f.r.ReadDir(name)
	return list, renamed(name, err)
}

// Stat follows links.
func (f rootFS) Stat(name string) (fs.FileInfo, error) {
	if err := checked("stat", name); err != nil {
		return nil, err
	}
	info, err := f.r.Stat(name)
	return info, renamed(name, err)
}

// Lstat is of the link.
func (f rootFS) Lstat(name string) (fs.FileInfo, error) {
	if err := checked("lstat", name); err != nil {
		return nil, err
	}
	info, err := f.r.Lstat(name)
	return info, renamed(name, err)
}

// ReadLink returns the text of a link.
func (f rootFS) ReadLink(name string) (string, error) {
	if err := checked("readlink", name); err != nil {
		return "", err
	}
	text, err := f.r.Readlink(name)
	return text, renamed(name, err)
}

// ReadFile is Root.ReadFile.
func (f rootFS) ReadFile(name string) ([]byte, error) {
	if err := checked("open", name); err != nil {
		return nil, err
	}
	b, err := f.r.ReadFile(name)
	return b, renamed(name, err)
}

// A readFile is an open regular file, to be read only.
type readFile struct {
	file *os.File
	info fs.FileInfo
}

// Stat is of when it was opened.
func (f *readFile) Stat() (fs.FileInfo, error)               { return f.info, nil }
func (f *readFile) Read(b []byte) (int, error)               { return f.file.Read(b) }
func (f *readFile) ReadAt(b []byte, at int64) (int, error)   { return f.file.ReadAt(b, at) }
func (f *readFile) Seek(at int64, whence int) (int64, error) { return f.file.Seek(at, whence) }
func (f *readFile) Close() error                             { return f.file.Close() }

// A listedDir is read at its first ReadDir.
type listedDir struct {
	r    *Root
	name string
	info fs.FileInfo
	left []fs.DirEntry
	read bool
}

// Stat is of when it was opened.
func (d *listedDir) Stat() (fs.FileInfo, error) { return d.info, nil }

// Read fails.
func (d *listedDir) Read([]byte) (int, error) { return 0, pathError("read", d.name, unix.EISDIR) }

// Close does nothing.
func (d *listedDir) Close() error { return nil }

// ReadDir is as fs.ReadDirFile says.
func (d *listedDir) ReadDir(n int) (list []fs.DirEntry, err error) {
	if !d.read {
		if d.left, err = d.r.ReadDir(d.name); err != nil {
			return nil, renamed(d.name, err)
		}
		d.read = true
	}
	if n <= 0 {
		list, d.left = d.left, nil
		return list, nil
	}
	if len(d.left) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.left))
	list, d.left = d.left[:n], d.left[n:]
	return list, nil
}
