//go:build linux

package vmtest

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// What the tests of a guest run besides their own binaries: what scripts/deps installs of it on the machine, and what
// every Debian has. No package's scripts run, so it's none that needs more than its files.
var userland = []string{
	"base-files", "base-passwd", "bash", "busybox-static", "coreutils", "dash", "debianutils", "diffutils", "docker-registry",
	"e2fsprogs", "findutils",
	"gcc", "grep", "gzip", "hostname", "iproute2", "libc-bin", "libc6-dev", "libcap2-bin", "login", "mount", "nftables",
	"passwd", "perl-base", "procps", "python3-minimal", "sed", "tar", "tmux", "uidmap", "util-linux", "vim-tiny",
}

// disk returns an image of an ext4 file system with the userland, which all guests share: they write to copies.
func (d *debian) disk() (string, error) {
	sum := sha256.Sum256([]byte(strings.Join(append(slices.Clone(userland), recipe), " ")))
	return d.once(fmt.Sprintf("userland-%x.ext4", sum[:6]), func(tmp string) error {
		tree := filepath.Join(tmp, "tree")
		if err := d.tree(tmp, tree); err != nil {
			return err
		}
		// No journal: nobody needs the disk after a guest.
		return command(tmp, "mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", tree, "made", "2G")
	})
}

// tree unpacks the userland and what it depends on.
func (d *debian) tree(tmp, dir string) error {
	if err := d.update(); err != nil {
		return err
	}
	archives := filepath.Join(tmp, "archives")
	if err := os.MkdirAll(archives+"/partial", 0o755); err != nil {
		return err
	}
	args := []string{"-qq", "-y", "--no-install-recommends", "--download-only", "-o", "Dir::Cache::archives=" + archives, "install"}
	if err := d.run(tmp, "apt-get", append(args, userland...)...); err != nil {
		return err
	}
	for _, link := range []string{"bin", "sbin", "lib", "lib64"} { // before what is in them: packages ship both names
		if err := os.MkdirAll(dir+"/usr/"+link, 0o755); err != nil {
			return err
		}
		if err := os.Symlink("usr/"+link, dir+"/"+link); err != nil {
			return err
		}
	}
	debs, err := filepath.Glob(archives + "/*.deb")
	if err != nil || len(debs) == 0 {
		return fmt.Errorf("apt-get install --download-only: %d packages (%v)", len(debs), err)
	}
	for _, deb := range debs {
		if err := extract(deb, dir); err != nil {
			return err
		}
	}
	return configure(dir)
}

// extract is dpkg -x, but for links in the place of directories, which stay.
func extract(deb, dir string) error {
	dpkg := exec.Command("dpkg-deb", "--fsys-tarfile", deb)
	tar := exec.Command("tar", "-C", dir, "-xp", "--keep-directory-symlink")
	var err error
	if tar.Stdin, err = dpkg.StdoutPipe(); err != nil {
		return err
	}
	if err := dpkg.Start(); err != nil {
		return err
	}
	out, err := tar.CombinedOutput()
	if werr := dpkg.Wait(); err == nil {
		err = werr
	}
	if err != nil {
		return fmt.Errorf("unpack %s: %w: %s", deb, err, out)
	}
	return nil
}

// recipe is raised when configure makes something else.
const recipe = "1"

// configure does what the packages' scripts would, as far as tests need it.
func configure(dir string) error {
	for from, to := range map[string]string{"passwd.master": "passwd", "group.master": "group"} {
		text, err := os.ReadFile(dir + "/usr/share/base-passwd/" + from)
		if err != nil {
			return err
		}
		if err := os.WriteFile(dir+"/etc/"+to, text, 0o644); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		"shadow": "root:*:19000:0:99999:7:::\n", "gshadow": "root:*::\n", "subuid": "", "subgid": "", "hostname": "guest\n",
		"hosts": "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 guest\n", "resolv.conf": "",
		"nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
	} {
		mode := os.FileMode(0o644)
		if strings.HasSuffix(name, "shadow") {
			mode = 0o640
		}
		if err := os.WriteFile(dir+"/etc/"+name, []byte(text), mode); err != nil {
			return err
		}
	}
	return command(dir, "ldconfig", "-r", dir)
}
