//go:build !linux

package rootfs

import (
	"context"
	"io"
	"io/fs"
	"os"
	"time"
)

func noRoot(op, name string) error { return &fs.PathError{Op: op, Path: clean(name), Err: errOther} }

// Open needs Linux.
func (r *Root) Open(name string) (*os.File, error) { return nil, noRoot("open", name) }

// Create needs Linux.
func (r *Root) Create(name string) (*os.File, error) { return nil, noRoot("open", name) }

// OpenFile needs Linux.
func (r *Root) OpenFile(name string, _ int, _ fs.FileMode) (*os.File, error) {
	return nil, noRoot("open", name)
}

// ReadFile needs Linux.
func (r *Root) ReadFile(name string) ([]byte, error) { return nil, noRoot("read", name) }

// WriteFile needs Linux.
func (r *Root) WriteFile(name string, _ []byte, _ fs.FileMode) error { return noRoot("write", name) }

// Stat needs Linux.
func (r *Root) Stat(name string) (fs.FileInfo, error) { return nil, noRoot("stat", name) }

// Lstat needs Linux.
func (r *Root) Lstat(name string) (fs.FileInfo, error) { return nil, noRoot("lstat", name) }

// Readlink needs Linux.
func (r *Root) Readlink(name string) (string, error) { return "", noRoot("readlink", name) }

// Mkdir needs Linux.
func (r *Root) Mkdir(name string, _ fs.FileMode) error { return noRoot("mkdir", name) }

// MkdirAll needs Linux.
func (r *Root) MkdirAll(name string, _ fs.FileMode) error { return noRoot("mkdir", name) }

// Remove needs Linux.
func (r *Root) Remove(name string) error { return noRoot("remove", name) }

// RemoveAll needs Linux.
func (r *Root) RemoveAll(_ context.Context, name string) error { return noRoot("remove", name) }

// Rename needs Linux.
func (r *Root) Rename(oldname, _ string) error { return noRoot("rename", oldname) }

// Link needs Linux.
func (r *Root) Link(oldname, _ string) error { return noRoot("link", oldname) }

// Symlink needs Linux.
func (r *Root) Symlink(_, newname string) error { return noRoot("symlink", newname) }

// Chmod needs Linux.
func (r *Root) Chmod(name string, _ fs.FileMode) error { return noRoot("chmod", name) }

// Chown needs Linux.
func (r *Root) Chown(name string, _, _ int) error { return noRoot("chown", name) }

// Lchown needs Linux.
func (r *Root) Lchown(name string, _, _ int) error { return noRoot("lchown", name) }

// Chtimes needs Linux.
func (r *Root) Chtimes(name string, _, _ time.Time) error { return noRoot("chtimes", name) }

// ReadDir needs Linux.
func (r *Root) ReadDir(name string) ([]fs.DirEntry, error) { return nil, noRoot("readdir", name) }

// FS needs Linux.
func (r *Root) FS() fs.FS { return noFS{} }

type noFS struct{}

// Open needs Linux.
func (noFS) Open(name string) (fs.File, error) { return nil, noRoot("open", name) }

// CopyOut needs Linux.
func (r *Root) CopyOut(_ context.Context, name string, _ io.Writer, _ CopyOptions) error {
	return noRoot("copy out", name)
}

// CopyLayer needs Linux.
func (r *Root) CopyLayer(context.Context, io.Writer, func(name string) bool) error {
	return noRoot("copy layer", "/")
}

// CopyIn needs Linux.
func (r *Root) CopyIn(_ context.Context, dir string, _ io.Reader, _ CopyOptions) error {
	return noRoot("copy in", dir)
}

// CopyFS needs Linux.
func (r *Root) CopyFS(_ context.Context, dir string, _ fs.FS, _ CopyOptions) error {
	return noRoot("copy in", dir)
}
