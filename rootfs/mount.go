package rootfs

import (
	"fmt"
	"io/fs"
)

// MountType says what a Mount puts at its Target.
type MountType uint8

// The types of a Mount. There is no default.
const (
	Bind   MountType = iota + 1 // a file or directory of the host's
	Volume                      // a named directory of the store's, made on first use with what it covers of an image
	Tmpfs                       // a new, empty directory in memory
	Image                       // the read-only tree of another image
	File                        // a file with given contents, in memory: a secret, a configuration
)

var typeNames = [...]string{Bind: "Bind", Volume: "Volume", Tmpfs: "Tmpfs", Image: "Image", File: "File"}

// String is the constant's name.
func (t MountType) String() string {
	if t == 0 || int(t) >= len(typeNames) {
		return "unknown"
	}
	return typeNames[t]
}

// Scope says who shares what a Mount put there.
type Scope uint8

// The scopes of a Mount.
const (
	PerSandbox Scope = iota // made with the sandbox, shared by all its commands
	PerRun                  // Tmpfs and File only: made anew for each command's process tree, gone with it
)

// String is the constant's name.
func (s Scope) String() string {
	switch s {
	case PerSandbox:
		return "PerSandbox"
	case PerRun:
		return "PerRun"
	}
	return "unknown"
}

const (
	// DefaultTmpfsSize is that of a Tmpfs Mount without a Size, in bytes.
	DefaultTmpfsSize = 256 << 20
	// MaxTmpfsSize bounds the size of a tmpfs, in bytes: 1 PiB.
	MaxTmpfsSize = 1 << 50
	// MaxFileData bounds the contents of a File Mount, in bytes. Larger files belong into a Bind.
	MaxFileData = 64 << 20
)

// Mount is a file or directory that is put into a sandbox's root. It is pure data. What lies at Target in the root is
// covered; where nothing does, Target and the directories above it are made (which leads to no change of an image). Every
// mount is nosuid and nodev.
type Mount struct {
	// Type says what is mounted. Required.
	Type MountType

	// Source is, for Bind, the absolute path of a file or directory of the host's, which must exist; for Volume the
	// volume's name, [a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}: it is made when it is not there, and begins with what
	// the sandbox's image has at Target (but extended attributes and sockets), as Docker's do; over other roots it begins empty;
	// for Image the reference of the image, pulled as the sandbox's own is. For other types it must be empty.
	Source string

	// Target is where it appears inside: an absolute, clean path. It is resolved inside the root by the kernel, and no part
	// of it may be a symbolic link there. "/", /dev itself and all of /proc and /sys are the sandbox's own and
	// can't be targets.
	Target string

	// Writable lets the sandbox change it; read-only is the default. An Image can't be writable. A File changes in the
	// sandbox only, never its Data. Written files of a Bind are the host's, with the owner of
	// Source: keep others of the host out of it, for they can be set-user-ID programs of that owner's.
	Writable bool

	// Scope says whether a Tmpfs or File is shared by the commands of a sandbox (the default) or is each one's own.
	Scope Scope

	// Size of a Tmpfs in bytes, from one page (4096) to MaxTmpfsSize; more can't be written to it (ENOSPC). It is memory, and
	// counts in Limits.Memory when it is filled. 0: DefaultTmpfsSize. For other types it must be 0.
	Size int64

	// Inodes is how many files and directories a Tmpfs can hold. 0: one for each 4 KiB of its size. For other types it
	// must be 0.
	Inodes int64

	// Mode of a Tmpfs's directory (permission bits and fs.ModeSticky) or of a File (permission bits). 0: 01777 for a
	// Tmpfs, as /tmp has it, 0444 for a File. For other types it must be 0.
	Mode fs.FileMode

	// UID and GID own a Tmpfs's directory or a File, as ids inside the sandbox. 0: root. Of a Bind it is as whom the owner
	// of Source, and his files below it, appear inside; those of others are nobody's (65534),
	// and other users of the sandbox can make no files there (EOVERFLOW). For other types they must be 0.
	UID, GID int

	// Data is what a File contains, at most MaxFileData bytes; nil: an empty file. It is neither logged nor kept in
	// records, errors, snapshots or images. For other types it must be nil.
	Data []byte
}

// TmpfsOptions are the options of the file system that a Tmpfs is (tmpfs(5)): key, value, key, value, ….
func (m Mount) TmpfsOptions() []string {
	size, mode := m.Size, m.Mode
	if size == 0 {
		size = DefaultTmpfsSize
	}
	if mode == 0 {
		mode = fs.ModeSticky | 0o777
	}
	bits := mode.Perm()
	if mode&fs.ModeSticky != 0 {
		bits |= 0o1000
	}
	return []string{"size", fmt.Sprint(size), "nr_inodes", fmt.Sprint(inodesFor(size, m.Inodes)), "mode", fmt.Sprintf("%#o", uint32(bits)),
		"uid", fmt.Sprint(m.UID), "gid", fmt.Sprint(m.GID)}
}
