package world

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// The device files that every program expects ("Default Devices" of the OCI
// runtime specification), with their numbers (devices.txt of the kernel).
var deviceFiles = map[string][2]uint32{
	"null": {1, 3}, "zero": {1, 5}, "full": {1, 7}, "random": {1, 8}, "urandom": {1, 9}, "tty": {5, 0},
}

// Its symbolic links ("Dev symbolic links" there), and where mounts go.
var (
	deviceLinks = map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx"}
	deviceDirs  = []string{"pts", "shm", "mqueue", ".empty"}
)

// maskDir is an empty directory of the World that hides others.
const maskDir = "/dev/.empty"

// ttyGroup is the group that owns terminals in the file systems of the LSB.
const ttyGroup = 5

// CheckDevice says what is wrong with a path of Spec.Devices.
func CheckDevice(name string) error {
	rel, ok := strings.CutPrefix(name, "/dev/")
	first, _, _ := strings.Cut(rel, "/")
	_, file := deviceFiles[first]
	_, link := deviceLinks[first]
	switch {
	case !ok || path.Clean(name) != name || strings.ContainsRune(name, 0):
		return errors.New("not the clean path of a device below /dev")
	case file || link || slices.Contains(deviceDirs, first):
		return errors.New("the sandbox has its own")
	}
	info, err := os.Stat(name)
	if err != nil {
		return errors.Unwrap(err)
	}
	if info.Mode()&fs.ModeCharDevice == 0 {
		return errors.New("not a character device")
	}
	return nil
}

// mayOpen says whether an ordinary user can give devices to a sandbox: as the files that they are.
func mayOpen(devices []string) error {
	for _, name := range devices {
		if err := unix.Access(name, unix.R_OK|unix.W_OK); err != nil {
			return &Unsupported{What: "device " + name, Why: err, Remedy: "run as root, or get the right to read and write it"}
		}
	}
	return nil
}

// deviceParents are the directories of those that are not in /dev itself, outer ones first.
func deviceParents(devices []string) (dirs []string) {
	for _, name := range devices {
		for i, c := range name {
			if c == '/' && i > len("/dev") && !slices.Contains(dirs, name[:i]) {
				dirs = append(dirs, name[:i])
			}
		}
	}
	return dirs
}

// devices are the files of a World's /dev, with their numbers.
func devices(more []string) (map[string][2]uint32, error) {
	all := maps.Clone(deviceFiles)
	for _, name := range more {
		var st unix.Stat_t
		if err := unix.Stat(name, &st); err != nil {
			return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
		}
		all[strings.TrimPrefix(name, "/dev/")] = [2]uint32{unix.Major(st.Rdev), unix.Minor(st.Rdev)}
	}
	return all, nil
}

// newDev makes a /dev with nodes of its own, nil where the embedder may not: one
// mount for each command to copy in place of one for each node. owner is root of
// the sandbox.
func newDev(owner int, more []string) (_ *os.File, err error) {
	if !privileged() || !hasCap(unix.CAP_MKNOD) {
		return nil, mayOpen(more)
	}
	files, err := devices(more)
	if err != nil {
		return nil, err
	}
	dirs := slices.Clone(deviceDirs)
	for _, dir := range deviceParents(more) {
		dirs = append(dirs, strings.TrimPrefix(dir, "/dev/"))
	}
	f, err := newTmpfs("mode", "0755", "size", "64k")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	fd := int(f.Fd())
	own := func(name string, mode uint32) error {
		if mode != 0 { // not of a link; and whatever the umask made of it
			if err := unix.Fchmodat(fd, name, mode, 0); err != nil {
				return err
			}
		}
		return unix.Fchownat(fd, name, owner, owner, unix.AT_SYMLINK_NOFOLLOW)
	}
	for _, name := range dirs {
		if err := unix.Mkdirat(fd, name, 0o755); err != nil {
			return nil, fmt.Errorf("mkdir /dev/%s: %w", name, err)
		}
		if err := own(name, 0o755); err != nil {
			return nil, fmt.Errorf("chown /dev/%s: %w", name, err)
		}
	}
	for name, n := range files {
		if err := unix.Mknodat(fd, name, unix.S_IFCHR|0o666, int(unix.Mkdev(n[0], n[1]))); err != nil {
			return nil, fmt.Errorf("mknod /dev/%s: %w", name, err)
		}
		if err := own(name, 0o666); err != nil {
			return nil, fmt.Errorf("chown /dev/%s: %w", name, err)
		}
	}
	for name, target := range deviceLinks {
		if err := unix.Symlinkat(target, fd, name); err != nil {
			return nil, fmt.Errorf("symlink /dev/%s: %w", name, err)
		}
		if err := own(name, 0); err != nil {
			return nil, fmt.Errorf("chown /dev/%s: %w", name, err)
		}
	}
	return f, unix.Fchownat(fd, "", owner, owner, unix.AT_EMPTY_PATH)
}

// newTmpfs makes a detached tmpfs in the caller's own user namespace.
func newTmpfs(options ...string) (*os.File, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen tmpfs: %w", err)
	}
	defer unix.Close(fs)
	for i := 0; i+1 < len(options); i += 2 {
		if err := unix.FsconfigSetString(fs, options[i], options[i+1]); err != nil {
			return nil, fmt.Errorf("fsconfig tmpfs %s: %w", options[i], err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("fsconfig tmpfs: %w", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, noSuid|noExec)
	if err != nil {
		return nil, fmt.Errorf("fsmount tmpfs: %w", err)
	}
	return os.NewFile(uintptr(fd), "tmpfs"), nil
}

// device mounts the minimal /dev: dev, or where there is none, as for a user,
// who may make no nodes, one of links to the host's and to those of more.
func device(m *mounter, dev spawn.Ref, more []string) {
	m.mkdir("/dev", 0o755)
	if dev == spawn.NoRef {
		bindDevices(m, more)
	} else {
		m.attach(dev, "/dev")
	}
}

func bindDevices(m *mounter, more []string) {
	m.attach(m.fs("tmpfs", noSuid|noExec, "mode", "0755", "size", "64k"), "/dev")
	for _, dir := range deviceParents(more) {
		m.mkdir(dir, 0o755)
	}
	all := slices.Clone(more)
	for name := range deviceFiles {
		all = append(all, "/dev/"+name)
	}
	for _, d := range all {
		m.file(d, nil, 0o666)
		m.attach(m.Do("open_tree", d, unix.SYS_OPEN_TREE, at, d, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC), d)
	}
	for name, target := range deviceLinks {
		m.symlink(target, "/dev/"+name)
	}
	for _, name := range deviceDirs {
		m.mkdir("/dev/"+name, 0o755)
	}
}
