package world

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// UnionRoot is a union of read-only layers and one that takes the changes.
type UnionRoot struct {
	// Mount is a detached mount made outside, as root must (layers that are
	// idmapped mounts are out of reach for a user namespace). It is the
	// caller's; nil: the union is mounted inside, from the fields below.
	Mount *os.File
	// Lower are directories, the bottom first; Upper and Work take the changes.
	Lower       []string
	Upper, Work string
	// Tmpfs, if not 0, is the size in bytes of a tmpfs in place of Upper and Work.
	Tmpfs int64
}

func (u UnionRoot) prepare(_ context.Context, s *Spec) ([]*os.File, error) {
	if u.Mount == nil {
		if f := features.tmpfsAttributes; u.Tmpfs > 0 && !f.supported() {
			return nil, &Unsupported{What: "a limit of disk space for an ordinary user", Remedy: "Linux " + f.version + " or newer: before, a tmpfs has no attributes for a union mount"}
		}
		if f := features.lowerdirPlus; !f.supported() && len(u.options()) >= os.Getpagesize() {
			return nil, &Unsupported{What: "so many layers with so long paths", Remedy: "Linux " + f.version + ": before, the paths of all have one page"}
		}
		return nil, nil
	}
	f, err := dup(u.Mount)
	return []*os.File{f}, err
}

// mount mounts the union as an ordinary user may (5.11): with attributes in
// user.* in place of trusted.*, without which a directory that is removed and
// made again is EIO.
func (u UnionRoot) mount(m *mounter, inputs []spawn.Ref) spawn.Ref {
	if len(inputs) > 0 {
		return inputs[0]
	}
	if u.Tmpfs == 0 {
		return u.mountUpper(m)
	}
	// Its path is needed: for a moment it is over the /proc of this mount namespace.
	const there = "/proc"
	m.Do("mount tmpfs", there, unix.SYS_MOUNT, "tmpfs", there, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV,
		fmt.Sprintf("mode=0755,size=%d,nr_inodes=%d", u.Tmpfs, diskInodes(u.Tmpfs)))
	u.Upper, u.Work = there+"/upper", there+"/work"
	for _, dir := range []string{u.Upper, u.Work} {
		m.Do("mkdir", dir, unix.SYS_MKDIRAT, at, dir, 0o755)
	}
	m.spec.skeleton(&mounter{Program: m.Program, root: m.Do("open", u.Upper, unix.SYS_OPENAT, at, u.Upper, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)})
	root := u.mountUpper(m)
	m.Do("umount", there, unix.SYS_UMOUNT2, there, unix.MNT_DETACH)
	return root
}

// union makes a read-only union mount as an ordinary user may. overlayfs wants two layers: there is an empty one below.
func (m *mounter) union(lower []string) spawn.Ref {
	const empty = "/proc" // for a moment over that of this mount namespace
	m.Do("mount tmpfs", empty, unix.SYS_MOUNT, "tmpfs", empty, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_RDONLY, "mode=0755,size=4096")
	u := UnionRoot{Lower: append([]string{empty}, lower...)}
	root := u.mountUpper(m)
	m.Do("umount", empty, unix.SYS_UMOUNT2, empty, unix.MNT_DETACH)
	return root
}

// mountUpper mounts the union with Upper and Work, if there are any.
func (u UnionRoot) mountUpper(m *mounter) spawn.Ref {
	if !features.lowerdirPlus.supported() {
		return u.mountByOptions(m)
	}
	fs := m.Do("fsopen", "overlay", unix.SYS_FSOPEN, "overlay", unix.FSOPEN_CLOEXEC)
	set := func(key, value string) spawn.Ref {
		return m.Do("fsconfig "+key, value, unix.SYS_FSCONFIG, fs, unix.FSCONFIG_SET_STRING, key, value, 0)
	}
	flag := func(key string) {
		m.Do("fsconfig "+key, "overlay", unix.SYS_FSCONFIG, fs, unix.FSCONFIG_SET_FLAG, key, 0, 0)
	}
	for i := len(u.Lower) - 1; i >= 0; i-- {
		set("lowerdir+", u.Lower[i])
	}
	if u.Upper != "" {
		set("upperdir", u.Upper)
		set("workdir", u.Work)
		flag("volatile")
	}
	flag("userxattr")
	m.Do("fsconfig create", "overlay", unix.SYS_FSCONFIG, fs, unix.FSCONFIG_CMD_CREATE, 0, 0, 0)
	return m.Do("mount", "overlay", unix.SYS_FSMOUNT, fs, unix.FSMOUNT_CLOEXEC, noSuid|noDev)
}

// mountByOptions is mount for the kernels before 6.8, where one option names all
// layers: fsconfig(2) takes no more than 255 bytes, mount(2) a page. That mounts
// somewhere: for a moment over the /proc of this mount namespace.
func (u UnionRoot) mountByOptions(m *mounter) spawn.Ref {
	const there = "/proc"
	m.Do("mount", "overlay", unix.SYS_MOUNT, "overlay", there, "overlay", unix.MS_NOSUID|unix.MS_NODEV, u.options())
	root := m.Do("open_tree", "overlay", unix.SYS_OPEN_TREE, at, there, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	m.Do("umount", "overlay", unix.SYS_UMOUNT2, there, unix.MNT_DETACH)
	return root
}

// options are those of mount(2), the topmost layer first.
func (u UnionRoot) options() string {
	quote := strings.NewReplacer(`\`, `\\`, ":", `\:`, ",", `\,`).Replace
	var lower []string
	for i := len(u.Lower) - 1; i >= 0; i-- {
		lower = append(lower, quote(u.Lower[i]))
	}
	options := "userxattr,lowerdir=" + strings.Join(lower, ":")
	if u.Upper != "" {
		options += ",volatile,upperdir=" + quote(u.Upper) + ",workdir=" + quote(u.Work)
	}
	return options
}

// skeleton is Skeleton in a directory of the child's.
func (s *Spec) skeleton(m *mounter) {
	for _, dir := range skeletonDirs {
		m.mkdir("/"+dir, 0o755)
	}
	for name, data := range s.etcFiles() {
		m.file("/etc/"+name, data, 0o644)
	}
}

// skeletonDirs are the places of mounts, and that of the files which are the sandbox's own.
var skeletonDirs = []string{"dev", "proc", "sys", "etc"}

// etcFiles are those.
func (s *Spec) etcFiles() map[string][]byte {
	return map[string][]byte{"hosts": s.Hosts, "resolv.conf": s.Resolv, "hostname": []byte(s.Hostname + "\n")}
}

// Skeleton lists what of an upper directory is the World's own, with all below it: names relative to its top.
func Skeleton() []string {
	var s Spec
	names := []string{"dev", "proc", "sys"}
	for name := range s.etcFiles() {
		names = append(names, "etc/"+name)
	}
	return names
}

// Skeleton makes, in a new upper directory, what every root must have and an
// image may leave out or have made links of: the places of mounts, and the files
// of /etc that are the sandbox's own. owner is who root of the sandbox is outside.
func (s *Spec) Skeleton(upper string, owner int) error {
	for _, dir := range skeletonDirs {
		if err := makeOwned(filepath.Join(upper, dir), owner); err != nil {
			return err
		}
	}
	for name, data := range s.etcFiles() {
		name = filepath.Join(upper, "etc", name)
		if err := os.WriteFile(name, data, 0o644); err != nil {
			return err
		}
		if err := own(name, owner, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func makeOwned(dir string, owner int) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return own(dir, owner, 0o755)
}

// own sets owner and mode, the latter whatever the umask.
func own(name string, owner int, mode os.FileMode) error {
	if err := os.Chmod(name, mode); err != nil || owner == os.Geteuid() {
		return err
	}
	return os.Chown(name, owner, owner)
}

// fill makes what images may leave out and programs expect, if it can be made.
func (UnionRoot) fill(m *mounter, _ []spawn.Ref) {
	m.mkdir("/tmp", 0o1777)
	m.mkdir("/run", 0o755)
}

func (UnionRoot) finish(m *mounter, s *Spec) {
	if s.ReadOnly {
		m.protectOnly("/", readOnly|noSuid|noDev)
	}
}

// private has nothing to do: the upper layer is the World's own.
func (UnionRoot) private(*mounter, *Spec) {}

func (UnionRoot) writable(s *Spec) []string {
	if s.ReadOnly {
		return nil
	}
	return []string{"/"}
}
