package rootfs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// MaxLower is how many lower layers overlayfs takes (OVL_MAX_STACK, fs/overlayfs/params.h).
const MaxLower = 500

// Overlay describes a union mount (Documentation/filesystems/overlayfs.rst): the directories of Lower, one on top of
// the other, and on top of them an upper layer that takes the changes. It is used by Open and MakeUpper, which neither
// change nor keep it.
//
// Overlays are mounted from outside of the user namespace that will use them, so the caller needs CAP_SYS_ADMIN in the
// user namespace of its mount namespace. Whiteouts are character devices 0:0, opaque directories have the attribute
// trusted.overlay.opaque=y. Metacopy, redirects and the inode index are off: an attribute in an untrusted layer can't
// make a file of another one appear.
type Overlay struct {
	// Lower are the read-only layers, absolute paths of directories: 1 to MaxLower. They stand in the order of an image's
	// manifest, so each covers those before it: Lower[0] is the bottom, the last one lies directly under the upper
	// layer. (overlayfs's own lowerdir and lowerdir+ list them the other way round.) Each layer is what one file system
	// has there; what is mounted below it isn't part of it.
	Lower []string

	// Upper is the directory that takes the changes, Work one of overlayfs's own on the same mount, empty when it is used
	// for the first time. Both are absolute, neither lies in the other, and no second mount may use them at the same
	// time (overlayfs does not notice). MakeUpper makes them. Both empty: a read-only mount, unless TmpfsSize or File
	// is set.
	Upper, Work string

	// TmpfsSize, in bytes, makes the upper layer a new tmpfs of that size, which lives as long as the mount; it is
	// memory, charged to the cgroup that writes. 0: none. It conflicts with Upper and Work.
	TmpfsSize int64

	// TmpfsInodes is how many files and directories that tmpfs can hold. 0: one for each 4 KiB of TmpfsSize.
	TmpfsInodes int64

	// File is the path of a file that Open makes, with a new ext4 in it of FileSize bytes (1 MiB at least) that takes the
	// changes: for more than memory should take, and less than the whole disk. It takes as much of the disk as is written,
	// some 2 % of FileSize are the file system's own, and it lasts as long as the mount; the file is the caller's to
	// remove, at any time. That takes mke2fs(8), of e2fsprogs, and loop devices (loop(4), Linux 5.8). It conflicts with
	// Upper, Work and TmpfsSize.
	File     string
	FileSize int64 // bytes; 1 MiB to MaxTmpfsSize with File, else 0

	// Fill is called with the path of the upper directory of that tmpfs or file, which is good until it returns, before the
	// mount is made; nil: it begins empty. Only with TmpfsSize or File.
	Fill func(upper string) error

	// UserNS is a user namespace, with its id maps written, whose ids the layers get: the file of id 0 in a lower layer
	// belongs to the namespace's id 0. The lower layers become idmapped mounts (mount_setattr(2), Linux 5.12, and 5.19 to
	// be layers). The upper layer is not idmapped: what is written there has the ids that the namespace's map to, and
	// Upper itself should belong to the one that its id 0 maps to, as MakeUpper has it. nil: ids are as on disk.
	// It stays the caller's.
	UserNS *os.File

	// Sync makes fsync(2) and sync(2) inside reach the disk of Upper. The default is "volatile" (Linux 5.10): they do
	// nothing, which is much faster, and after a crash of the machine the upper layer may be damaged. For that reason the
	// kernel mounts a Work that was used so no second time; Open then returns an error that is fs.ErrExist.
	Sync bool

	// Devices lets device nodes of the layers be opened; the default is nodev.
	Devices bool

	// SetUID lets set-user-ID bits and file capabilities of the layers take effect; the default is nosuid.
	SetUID bool
}

// minFileSize is what an ext4 needs.
const minFileSize = 1 << 20

// writable reports whether there is an upper layer.
func (o *Overlay) writable() bool { return o.Upper != "" || o.ownUpper() }

// ownUpper says whether that is in a new file system.
func (o *Overlay) ownUpper() bool { return o.TmpfsSize > 0 || o.File != "" }

// check finds what can be told without the file system: all faults at once.
func (o *Overlay) check() error {
	var f faults
	switch n := len(o.Lower); {
	case n == 0:
		f.add("Lower", nil, invalidf("empty, need at least one directory"))
	case n > MaxLower:
		f.add("Lower", fmt.Sprintf("%d layers", n), unsupportedf("overlayfs takes at most %d", MaxLower))
	}
	for i, dir := range o.Lower {
		f.path(lowerField(i), dir)
	}
	o.checkUpper(&f)
	return f.join()
}

func (o *Overlay) checkUpper(f *faults) {
	if o.Fill != nil && o.TmpfsSize == 0 && o.File == "" {
		f.add("Fill", nil, invalidf("without TmpfsSize or File"))
	}
	if o.File != "" || o.FileSize != 0 {
		f.path("File", o.File)
		if o.FileSize < minFileSize || o.FileSize > MaxTmpfsSize {
			f.add("FileSize", o.FileSize, invalidf("not between %d and %d bytes", int64(minFileSize), int64(MaxTmpfsSize)))
		}
		if o.Upper != "" || o.Work != "" || o.TmpfsSize != 0 {
			f.add("File", o.File, invalidf("conflicts with Upper, Work and TmpfsSize"))
		}
		return
	}
	if o.TmpfsSize != 0 || o.TmpfsInodes != 0 {
		f.size("TmpfsSize", o.TmpfsSize)
		f.inodes("TmpfsInodes", o.TmpfsInodes)
		if o.Upper != "" || o.Work != "" {
			f.add("TmpfsSize", o.TmpfsSize, invalidf("conflicts with Upper and Work"))
		}
		return
	}
	if o.Upper == "" && o.Work == "" {
		return
	}
	f.path("Upper", o.Upper)
	f.path("Work", o.Work)
	if inside(o.Upper, o.Work) || inside(o.Work, o.Upper) {
		f.add("Work", o.Work, invalidf("it and Upper %q may not lie in one another", o.Upper))
	}
}

// path checks an absolute path of the host's and reports whether it found no fault.
func (f *faults) path(field, path string) bool {
	switch {
	case path == "":
		f.add(field, nil, invalidf("empty"))
	case strings.IndexByte(path, 0) >= 0:
		f.add(field, path, invalidf("NUL byte"))
	case !filepath.IsAbs(path):
		f.add(field, path, invalidf("not absolute"))
	default:
		return true
	}
	return false
}

// inside reports whether path is dir or below it, by their names.
func inside(path, dir string) bool {
	path, dir = filepath.Clean(path), filepath.Clean(dir)
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

func lowerField(i int) string { return fmt.Sprintf("Lower[%d]", i) }
