package world

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// HostRoot is the host's own userland, read-only: /usr with the links into it,
// and what programs need of /etc. Nothing of /home, /root, /var, /run or /tmp:
// those are private and empty. (It is not an overlay over "/": upper and lower
// would overlap.)
type HostRoot struct{}

// userland is what HostRoot shows, read from the host once per program.
type userland struct {
	binds []string          // directories
	links map[string]string // symbolic links, with their targets
	files map[string][]byte // small files of /etc, copied
	dirs  []string          // the parents of what is in /etc
}

// What programs read of /etc: names and services, the dynamic loader, locale
// and time, certificates, and the links and configuration of toolchains. No
// name here may match a secret.
var (
	etcFiles = []string{"passwd", "group", "nsswitch.conf", "host.conf", "gai.conf", "protocols", "services",
		"ld.so.cache", "ld.so.conf", "localtime", "timezone", "locale.conf", "os-release", "debian_version",
		"shells", "profile", "bash.bashrc", "inputrc", "ssl/openssl.cnf", "mtab"}
	etcDirs = []string{"alternatives", "ssl/certs", "pki/tls/certs", "pki/ca-trust/extracted", "ca-certificates/extracted",
		"java-*"}
)

// maxEtcFile keeps a file that grew out of hand from being copied into every sandbox.
const maxEtcFile = 1 << 20

var hostUserland = sync.OnceValue(func() *userland {
	u := &userland{links: map[string]string{}, files: map[string][]byte{}}
	for _, name := range []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"} {
		u.add(name)
	}
	for _, name := range etcFiles {
		u.add("/etc/" + name)
	}
	for _, pattern := range etcDirs {
		found, _ := filepath.Glob("/etc/" + pattern)
		for _, name := range found {
			u.add(name)
		}
	}
	return u
})

// add notes a name of the host, if it is there and of a kind that is shown.
func (u *userland) add(name string) {
	info, err := os.Lstat(name)
	if err != nil {
		return
	}
	switch {
	case info.Mode()&os.ModeSymlink != 0:
		u.links[name], _ = os.Readlink(name)
	case info.IsDir():
		u.binds = append(u.binds, name)
	case info.Mode().IsRegular() && info.Size() <= maxEtcFile && info.Mode()&0o004 != 0:
		if u.files[name], err = os.ReadFile(name); err != nil {
			delete(u.files, name)
			return
		}
	default:
		return
	}
	if dir := filepath.Dir(name); dir != "/" && dir != "/etc" {
		u.dirs = append(u.dirs, dir)
	}
}

// prepare has nothing to do: the mounts are made inside, without mapping ids, so
// that the host's root is nobody there. Mapped to the sandbox's root his private
// files below /usr would be open to it.
func (HostRoot) prepare(context.Context, *Spec) ([]*os.File, error) { return nil, nil }

func (HostRoot) mount(m *mounter, _ []spawn.Ref) spawn.Ref {
	return m.fs("tmpfs", noSuid|noDev, "mode", "0755")
}

func (HostRoot) fill(m *mounter, _ []spawn.Ref) {
	u := hostUserland()
	m.mkdir("/etc", 0o755)
	for _, dir := range u.dirs {
		m.mkdir(dir, 0o755)
	}
	for _, dir := range u.binds {
		m.mkdir(dir, 0o755)
		m.attach(m.bind(dir), dir)
	}
	for name, target := range u.links {
		m.symlink(target, name)
	}
	for name, data := range u.files {
		m.file(name, data, 0o644)
	}
	m.symlink("/proc/sys/kernel/hostname", "/etc/hostname")
	m.file("/etc/hosts", nil, 0o644)
	m.file("/etc/resolv.conf", []byte(NoNameServers), 0o644)
	for _, dir := range []string{"/tmp", "/run", "/home", "/var"} {
		m.mkdir(dir, 0o755)
	}
	m.symlink("home/root", "/root")
	m.symlink("../tmp", "/var/tmp")
	m.symlink("../run", "/var/run")
}

func (HostRoot) finish(m *mounter, s *Spec) {
	for _, dir := range hostUserland().binds {
		m.protect(dir, readOnly|noSuid|noDev)
	}
	// Last: the root itself, alone. Its file system stays writable to nobody.
	m.protectOnly("/", readOnly|noSuid|noDev)
}

// private mounts the writable places, and the files that tell the World's name.
func (HostRoot) private(m *mounter, s *Spec) {
	const flags = unix.MS_NOSUID | unix.MS_NODEV
	places := []struct {
		dir  string
		mode int
	}{{"/tmp", 0o1777}, {"/run", 0o755}, {"/home", 0o755}}
	if s.Disk > 0 { // all in one
		m.newFS("tmpfs", maskDir, flags, "mode=0700"+s.diskOption())
	}
	for _, p := range places {
		if s.Disk == 0 {
			m.newFS("tmpfs", p.dir, flags, fmt.Sprintf("mode=%#o", p.mode))
			continue
		}
		own := maskDir + p.dir
		m.Do("mkdir", own, unix.SYS_MKDIRAT, at, own, p.mode)
		m.Do("mount", p.dir, unix.SYS_MOUNT, own, p.dir, 0, unix.MS_BIND, 0)
	}
	if s.Disk > 0 {
		m.Do("umount", maskDir, unix.SYS_UMOUNT2, maskDir, unix.MNT_DETACH)
	}
	m.Do("mkdir", "/home/root", unix.SYS_MKDIRAT, at, "/home/root", 0o700)
	m.ownFile("/etc/hosts", s.Hosts)
	if string(s.Resolv) != NoNameServers {
		m.ownFile("/etc/resolv.conf", s.Resolv)
	}
}

// NoNameServers is the /etc/resolv.conf of a World without a network.
const NoNameServers = "# no network, no name servers\n"

func (HostRoot) writable(*Spec) []string { return []string{"/tmp", "/run", "/home"} }
