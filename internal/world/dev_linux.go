package world

import "golang.org/x/sys/unix"

// The device files that every program expects. The nodes are the host's own,
// bound one by one: an unprivileged user can make no others (mknod(2)).
var deviceFiles = []string{"null", "zero", "full", "random", "urandom", "tty"}

// maskDir is an empty directory of the World that hides others.
const maskDir = "/dev/.empty"

// device mounts the minimal /dev of the OCI runtime specification ("Default
// Devices" and "Dev symbolic links").
func (s *Spec) device(m *mounter) {
	m.mkdir("/dev", 0o755)
	m.attach(m.fs("tmpfs", noSuid|noExec, "mode", "0755", "size", "64k"), "/dev")
	for _, d := range deviceFiles {
		d = "/dev/" + d
		m.file(d, nil, 0o666)
		m.attach(m.Do("open_tree", d, unix.SYS_OPEN_TREE, at, d, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC), d)
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx"} {
		m.symlink(target, "/dev/"+name)
	}
	options := []string{"ptmxmode", "0666", "mode", "0620"}
	if Maps(s.Map.GIDs, ttyGroup) {
		options = append(options, "gid", "5")
	}
	m.mount("devpts", "/dev/pts", noSuid|noExec, options...)
	m.mount("tmpfs", "/dev/shm", noSuid|noDev|noExec, "mode", "1777")
	m.mount("mqueue", "/dev/mqueue", noSuid|noDev|noExec)
	m.mkdir(maskDir, 0)
}

// ttyGroup is the group that owns terminals in the file systems of the LSB.
const ttyGroup = 5

// mount makes a directory of the tree and mounts a new file system on it.
func (m *mounter) mount(fstype, target string, attrs int, options ...string) {
	m.mkdir(target, 0o755)
	m.attach(m.fs(fstype, attrs, options...), target)
}
