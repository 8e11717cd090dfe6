package world

import (
	"context"
	"path"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// Mount attributes (mount_setattr(2)); the same bits mean the same to fsmount.
const (
	readOnly = unix.MOUNT_ATTR_RDONLY
	noSuid   = unix.MOUNT_ATTR_NOSUID
	noDev    = unix.MOUNT_ATTR_NODEV
	noExec   = unix.MOUNT_ATTR_NOEXEC
)

// at is AT_FDCWD as an argument.
const at = unix.AT_FDCWD

// mounter adds the calls that build a tree of mounts below root.
type mounter struct {
	*spawn.Program
	spec *Spec     // of the World that is built
	root spawn.Ref // the root of the new tree, once attached
}

// fs makes a detached mount of a new file system (fsopen(2), 5.2).
func (m *mounter) fs(fstype string, attrs int, options ...string) spawn.Ref {
	fs := m.Do("fsopen", fstype, unix.SYS_FSOPEN, fstype, unix.FSOPEN_CLOEXEC)
	for i := 0; i+1 < len(options); i += 2 {
		m.Do("fsconfig "+options[i], fstype, unix.SYS_FSCONFIG, fs, unix.FSCONFIG_SET_STRING, options[i], options[i+1], 0)
	}
	m.Do("fsconfig create", fstype, unix.SYS_FSCONFIG, fs, unix.FSCONFIG_CMD_CREATE, 0, 0, 0)
	return m.Do("mount", fstype, unix.SYS_FSMOUNT, fs, unix.FSMOUNT_CLOEXEC, attrs)
}

// newFS mounts a new file system on a directory below "/". mount(2) takes half of
// what fsopen, fsmount and move_mount do.
func (m *mounter) newFS(fstype, target string, flags int, options string) {
	m.Do("mount "+fstype, target, unix.SYS_MOUNT, fstype, target, fstype, flags, options)
}

// ownFile puts a read-only file with the given content over an empty one below
// "/". It lies in /run, where its name does not stay.
func (m *mounter) ownFile(target string, data []byte) {
	const name = "/run/.own"
	fd := m.Do("create", target, unix.SYS_OPENAT, at, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o444)
	m.Do("write", target, unix.SYS_WRITE, fd, m.Bytes(data), len(data))
	m.Do("close", target, unix.SYS_CLOSE, fd)
	m.Do("mount", target, unix.SYS_MOUNT, name, target, 0, unix.MS_BIND, 0)
	m.Do("mount read-only", target, unix.SYS_MOUNT, 0, target, 0,
		unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, 0)
	m.Do("unlink", name, unix.SYS_UNLINKAT, at, name, 0)
}

// bind makes a detached copy of what lies at a path of the caller's.
func (m *mounter) bind(source string) spawn.Ref {
	return m.Do("open_tree", source, unix.SYS_OPEN_TREE, at, source, cloneTree)
}

// cloneTree copies a mount with all that is mounted below it. An ordinary user
// must take all: a copy of less would show what the mounts hide.
const cloneTree = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE

// attach puts a detached mount on a directory or file of the tree. Symbolic
// links are not followed: an image's /dev may be one.
func (m *mounter) attach(mount spawn.Ref, target string) {
	m.moveTo(mount, m.open(target, 0))
}

func (m *mounter) moveTo(mount, target spawn.Ref) {
	m.Do("move_mount", m.PathOf(target), unix.SYS_MOVE_MOUNT, mount, "", target, "",
		unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// open opens a name of the tree as a place (O_PATH) without following links.
func (m *mounter) open(name string, flags int) spawn.Ref {
	how := m.Words(uintptr(unix.O_PATH|unix.O_CLOEXEC|flags), 0,
		unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_SYMLINKS)
	return m.Do("openat2", name, unix.SYS_OPENAT2, m.root, name, how, 24)
}

// mkdir makes a directory of the tree, which may be there already.
func (m *mounter) mkdir(name string, mode int) {
	m.Try("mkdir", name, unix.SYS_MKDIRAT, m.root, rel(name), mode)
}

func (m *mounter) symlink(target, name string) {
	m.Do("symlink", name, unix.SYS_SYMLINKAT, target, m.root, rel(name))
}

// file makes a new file of the tree with the given content.
func (m *mounter) file(name string, data []byte, mode int) {
	fd := m.Do("create", name, unix.SYS_OPENAT, m.root, rel(name),
		unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if len(data) > 0 {
		m.Do("write", name, unix.SYS_WRITE, fd, m.Bytes(data), len(data))
	}
	m.Do("close", name, unix.SYS_CLOSE, fd)
}

func rel(name string) string { return path.Clean("/" + name)[1:] }

// protect sets attributes of the mounts at an absolute path in the current
// root. mount_setattr (5.12) changes a whole tree at once; the kernels before
// it get what mount(2) can: the top one.
func (m *mounter) protect(name string, attrs int) {
	m.setAttrs(name, attrs, unix.AT_RECURSIVE)
}

// protectOnly does the same to the one mount at name.
func (m *mounter) protectOnly(name string, attrs int) { m.setAttrs(name, attrs, 0) }

func (m *mounter) setAttrs(name string, attrs, flags int) {
	if !features.mountSetattr.supported() {
		m.Do("mount remount", name, unix.SYS_MOUNT, 0, name, 0, unix.MS_REMOUNT|unix.MS_BIND|mountFlags(attrs), 0)
		return
	}
	attr := unix.MountAttr{Attr_set: uint64(attrs)}
	m.Do("mount_setattr", name, unix.SYS_MOUNT_SETATTR, at, name, flags,
		m.Bytes(unsafe.Slice((*byte)(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))), int(unsafe.Sizeof(attr)))
}

// lock makes a mount of ours at name read-only, whatever is at name by now.
func (m *mounter) lock(mount spawn.Ref, name string) {
	if !features.mountSetattr.supported() {
		m.protectOnly(name, readOnly|noSuid|noDev)
		return
	}
	attr := unix.MountAttr{Attr_set: readOnly}
	m.Do("mount_setattr", name, unix.SYS_MOUNT_SETATTR, mount, "", unix.AT_EMPTY_PATH,
		m.Bytes(unsafe.Slice((*byte)(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))), int(unsafe.Sizeof(attr)))
}

// mountFlags translates mount attributes for mount(2).
func mountFlags(attrs int) (flags int) {
	for _, f := range [][2]int{{readOnly, unix.MS_RDONLY}, {noSuid, unix.MS_NOSUID}, {noDev, unix.MS_NODEV}, {noExec, unix.MS_NOEXEC}} {
		if attrs&f[0] != 0 {
			flags |= f[1]
		}
	}
	return flags
}

// copies makes n copies of the mount namespace. The World's files are open: its
// Close waits for Starts and stops the stocks.
func (w *World) copies(ctx context.Context, n int) ([]int, error) {
	fds, _, err := spawn.Run(ctx, func(p *spawn.Program) {
		user, mnt := p.Input(int(w.files[fileUser].Fd())), p.Input(int(w.files[fileMnt].Fd()))
		self := selfHandle(p)
		p.EnterUserNS(user)
		p.Do("setns", nsNames[fileMnt], unix.SYS_SETNS, mnt, unix.CLONE_NEWNS)
		p.Send(copyMountNS(p, self, n)...)
	})
	return fds, err
}

// copyMountNS adds the calls that copy the mount namespace that the child is in n
// times; it ends up in the last.
func copyMountNS(p *spawn.Program, self spawn.Ref, n int) (copies []spawn.Ref) {
	for range n {
		p.Do("unshare", "mount namespace", unix.SYS_UNSHARE, unix.CLONE_NEWNS)
		copies = append(copies, ownNS(p, self, "mnt"))
	}
	return copies
}
