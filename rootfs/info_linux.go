package rootfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// modeBits are those of chmod(2).
func modeBits(m fs.FileMode) uint32 {
	bits := uint32(m.Perm())
	for flag, bit := range specialBits {
		if m&flag != 0 {
			bits |= bit
		}
	}
	return bits
}

var specialBits = map[fs.FileMode]uint32{
	fs.ModeSetuid: syscall.S_ISUID, fs.ModeSetgid: syscall.S_ISGID, fs.ModeSticky: syscall.S_ISVTX,
}

var kinds = map[uint16]fs.FileMode{
	unix.S_IFDIR: fs.ModeDir, unix.S_IFLNK: fs.ModeSymlink, unix.S_IFIFO: fs.ModeNamedPipe, unix.S_IFSOCK: fs.ModeSocket,
	unix.S_IFBLK: fs.ModeDevice, unix.S_IFCHR: fs.ModeDevice | fs.ModeCharDevice,
}

// fileInfo is a fs.FileInfo.
type fileInfo struct {
	name string
	st   unix.Statx_t
}

// newInfo is for the object of that clean name.
func newInfo(name string) *fileInfo {
	if name == "/" {
		name = "."
	}
	return &fileInfo{name: path.Base(name)}
}

// Name is the last element of the name that was asked for.
func (i *fileInfo) Name() string { return i.name }

// Size is in bytes.
func (i *fileInfo) Size() int64 { return int64(i.st.Size) }

// Mode has the type and all bits of the mode.
func (i *fileInfo) Mode() fs.FileMode {
	m := fs.FileMode(i.st.Mode&0o777) | kinds[i.st.Mode&unix.S_IFMT]
	for flag, bit := range specialBits {
		if uint32(i.st.Mode)&bit != 0 {
			m |= flag
		}
	}
	return m
}

// ModTime is to the nanosecond.
func (i *fileInfo) ModTime() time.Time { return time.Unix(i.st.Mtime.Sec, int64(i.st.Mtime.Nsec)) }

// IsDir says whether it is a directory.
func (i *fileInfo) IsDir() bool { return i.Mode().IsDir() }

// String is as fs.FormatFileInfo has it.
func (i *fileInfo) String() string { return fs.FormatFileInfo(i) }

// Sys is a *unix.Statx_t.
func (i *fileInfo) Sys() any { return &i.st }

// dirEntry is a fs.DirEntry.
type dirEntry struct {
	r    *Root
	path string
	kind uint8 // DT_REG …
}

// Name is the name in the directory.
func (d *dirEntry) Name() string { return path.Base(d.path) }

// IsDir says whether it was a directory.
func (d *dirEntry) IsDir() bool { return d.Type().IsDir() }

// Type is that of when the directory was read.
func (d *dirEntry) Type() fs.FileMode {
	if d.kind == unix.DT_UNKNOWN {
		if info, err := d.Info(); err == nil {
			return info.Mode().Type()
		}
	}
	return kinds[uint16(d.kind)<<12]
}

// String is as fs.FormatDirEntry has it.
func (d *dirEntry) String() string { return fs.FormatDirEntry(d) }

// Info is Lstat of now.
func (d *dirEntry) Info() (fs.FileInfo, error) { return d.r.Lstat(d.path) }

// A child is a name in a directory.
type child struct {
	name string
	kind uint8 // DT_REG …
}

// readDir reads what fd, a directory, has, sorted by name, and no more than most.
func readDir(ctx context.Context, fd int, most int64) (list []child, err error) {
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, err
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case n == 0:
			slices.SortFunc(list, func(a, b child) int { return strings.Compare(a.name, b.name) })
			return list, nil
		}
		if list = appendChildren(list, buf[:n]); int64(len(list)) > most {
			return nil, &LimitError{"entries", most}
		}
	}
}

// appendChildren takes apart what getdents64(2) writes.
func appendChildren(list []child, b []byte) []child {
	const head = 19 // of struct linux_dirent64, before d_name
	for len(b) > head {
		size := int(binary.NativeEndian.Uint16(b[16:]))
		if size <= head || size > len(b) {
			break
		}
		name, _, _ := bytes.Cut(b[head:size], []byte{0})
		if n := string(name); n != "." && n != ".." {
			list = append(list, child{n, b[18]})
		}
		b = b[size:]
	}
	return list
}
