package world

import (
	"context"
	"os"
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
}

func (u UnionRoot) prepare(context.Context, *Spec) ([]*os.File, error) {
	if u.Mount == nil {
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
	fs := m.Do("fsopen", "overlay", unix.SYS_FSOPEN, "overlay", unix.FSOPEN_CLOEXEC)
	set := func(key, value string) spawn.Ref {
		return m.Do("fsconfig "+key, value, unix.SYS_FSCONFIG, fs, unix.FSCONFIG_SET_STRING, key, value, 0)
	}
	flag := func(key string) {
		m.Do("fsconfig "+key, "overlay", unix.SYS_FSCONFIG, fs, unix.FSCONFIG_SET_FLAG, key, 0, 0)
	}
	if features.lowerdirPlus.supported() {
		for i := len(u.Lower) - 1; i >= 0; i-- {
			set("lowerdir+", u.Lower[i])
		}
	} else {
		set("lowerdir", joinLower(u.Lower))
	}
	set("upperdir", u.Upper)
	set("workdir", u.Work)
	flag("userxattr")
	flag("volatile")
	m.Do("fsconfig create", "overlay", unix.SYS_FSCONFIG, fs, unix.FSCONFIG_CMD_CREATE, 0, 0, 0)
	return m.Do("mount", "overlay", unix.SYS_FSMOUNT, fs, unix.FSMOUNT_CLOEXEC, noSuid|noDev)
}

// joinLower writes layers as the lowerdir option of the kernels before 6.8, the
// topmost first.
func joinLower(lower []string) string {
	var dirs []string
	for i := len(lower) - 1; i >= 0; i-- {
		dirs = append(dirs, strings.NewReplacer(`\`, `\\`, ":", `\:`, ",", `\,`).Replace(lower[i]))
	}
	return strings.Join(dirs, ":")
}

// fill makes what every image may leave out.
func (UnionRoot) fill(m *mounter, _ []spawn.Ref, _ *Spec) {
	m.mkdir("/etc", 0o755)
	m.mkdir("/tmp", 0o1777)
	m.mkdir("/run", 0o755)
}

// finish writes the files of /etc that are the sandbox's own. Each name is made
// anew: an image may have put a link there.
func (UnionRoot) finish(m *mounter, s *Spec) {
	for _, f := range []struct {
		name string
		data []byte
	}{{"/etc/hosts", s.Hosts}, {"/etc/resolv.conf", s.Resolv}, {"/etc/hostname", []byte(s.Hostname + "\n")}} {
		m.Try("unlink", f.name, unix.SYS_UNLINKAT, m.root, rel(f.name), 0)
		m.file(f.name, f.data, 0o644)
	}
	if s.ReadOnly {
		m.protectOnly("/", readOnly|noSuid|noDev)
	}
	m.protectOnly("/dev", readOnly|noSuid|noExec)
}
