package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
)

// What a Root gives at most, so that a tree that somebody hostile fills is bounded work and memory.
const (
	MaxReadFile    = 1 << 30 // bytes of Root.ReadFile
	MaxDirEntries  = 1 << 20 // names of Root.ReadDir
	MaxCopyBytes   = 8 << 30 // bytes of a copy; CopyOptions.MaxBytes
	MaxCopyEntries = 1 << 20 // entries of a copy; CopyOptions.MaxEntries
	MaxCopyDepth   = 256     // directories below each other of Root.CopyOut
)

// A Root works on the files of a directory tree that others use at the same time, hostile ones perhaps. It has the
// methods of [os.Root], and copies whole trees as tar streams. Every name is absolute in the tree, with a slash in front
// or not, and resolved in it by the kernel (openat2(2), RESOLVE_IN_ROOT): symbolic links and ".." end at its top, whoever
// renames what meanwhile. (Names are cleaned first, as by [path.Clean].)
//
// Files are made and looked at by a child in the Root's user namespace, as a user of that: ids in a [fs.FileInfo], and those
// that Chown takes, are those inside, and so are the rights. No umask applies. A FIFO, socket or device is never opened, and
// so keeps nobody waiting. What is written to a tmpfs is memory, charged to the cgroup of this program.
//
// Errors are [*fs.PathError], or [*os.LinkError] of Rename, Link and Symlink, as those of os; os.ErrClosed when the Root's
// descriptors have been closed. All methods may be called concurrently.
type Root struct {
	dir, userns *os.File
	uid, gid    int
}

// NewRoot makes a Root of the tree whose top dir is, an open directory (O_PATH is enough), for a user of the user namespace
// userns with all capabilities there (0 and 0, where these ids are mapped); without one, nil, as this program itself. Both
// stay the caller's, who closes them when the Root isn't used any more.
func NewRoot(dir, userns *os.File, uid, gid int) *Root { return &Root{dir, userns, uid, gid} }

// LimitError says that there is more in a tree than a Root gives.
type LimitError struct {
	What string // "bytes of a file", "names in a directory", "bytes", "entries", "depth"
	Max  int64  // the limit
}

// Error names the limit.
func (e *LimitError) Error() string { return fmt.Sprintf("more %s than %d", e.What, e.Max) }

// CopyOptions are those of Root.CopyIn and Root.CopyOut; the zero value is useful.
type CopyOptions struct {
	// KeepOwner has CopyIn give files the ids that the archive says, which must be mapped in the Root's user namespace;
	// else they belong to the Root's user.
	KeepOwner  bool
	MaxBytes   int64 // of all files, holes too; 0: MaxCopyBytes
	MaxEntries int64 // 0: MaxCopyEntries
}

func (o CopyOptions) bounds() (bytes, entries int64) {
	bytes, entries = o.MaxBytes, o.MaxEntries
	if bytes == 0 {
		bytes = MaxCopyBytes
	}
	if entries == 0 {
		entries = MaxCopyEntries
	}
	return bytes, entries
}

var (
	errNotFile = fmt.Errorf("neither a regular file nor a directory: %w", fs.ErrInvalid)
	errIsDir   = errors.New("is a directory (ReadDir, FS and CopyOut read it)")
	errTop     = fmt.Errorf("the top of the tree: %w", fs.ErrInvalid)
	errFlag    = fmt.Errorf("a flag other than those of os.OpenFile: %w", fs.ErrInvalid)
)

// clean gives a name as the tree has it: "/a/b".
func clean(name string) string { return path.Clean("/" + name) }
