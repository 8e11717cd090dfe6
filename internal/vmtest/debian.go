//go:build linux && guest

package vmtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// debian gets packages for another architecture from where this machine's own come, into a directory of the user's cache.
// Nothing of it is installed, and apt's own lists stay as they are.
type debian struct {
	dir     string
	options []string
}

func newDebian(arch string) (*debian, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	d := &debian{dir: filepath.Join(cache, "sandbox-vmtest", arch)}
	for _, sub := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(d.dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	sources, err := d.sources(arch)
	if err != nil {
		return nil, err
	}
	list := filepath.Join(d.dir, "sources.list")
	for _, o := range []string{
		"APT::Architecture=" + arch, "APT::Architectures=" + arch, "APT::Sandbox::User=root",
		"Dir::Etc::sourcelist=" + list, "Dir::Etc::sourceparts=/dev/null", "Dir::State::status=/dev/null",
		"Dir::State::lists=" + filepath.Join(d.dir, "lists"), "Dir::Cache=" + filepath.Join(d.dir, "cache"),
		"Acquire::Retries=3",
	} {
		d.options = append(d.options, "-o", o)
	}
	return d, os.WriteFile(list, []byte(sources), 0o644)
}

// sources are the machine's own, by apt-get(8), for arch.
func (d *debian) sources(arch string) (string, error) {
	out, err := exec.Command("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Origin: Debian", "Component: main").Output()
	if err != nil {
		return "", fmt.Errorf("apt-get indextargets: %w", err)
	}
	lines := map[string]bool{}
	var text strings.Builder
	for line := range strings.Lines(string(out)) {
		if !lines[line] {
			fmt.Fprintf(&text, "deb [arch=%s] %s main\n", arch, strings.TrimSpace(line))
		}
		lines[line] = true
	}
	if text.Len() == 0 {
		return "", fmt.Errorf("apt-get indextargets: no Debian archive is configured (apt-get update?)")
	}
	return text.String(), nil
}

// unpacked returns the directory with the content of a package, or of the first that it depends on; it is fetched once.
func (d *debian) unpacked(name string, dependency bool) (string, error) {
	dir := filepath.Join(d.dir, name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := d.run(d.dir, "apt-get", "-qq", "update"); err != nil {
		return "", err
	}
	target := name
	if dependency {
		out, err := exec.Command("apt-cache", append(d.options, "depends", name)...).Output()
		if err != nil {
			return "", fmt.Errorf("apt-cache depends %s: %w", name, err)
		}
		_, rest, _ := strings.Cut(string(out), "Depends: ")
		target, _, _ = strings.Cut(rest, "\n")
	}
	tmp, err := os.MkdirTemp(d.dir, "new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := d.run(tmp, "apt-get", "-qq", "download", target); err != nil {
		return "", err
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(debs) != 1 {
		return "", fmt.Errorf("apt-get download %s: %d packages (%v)", target, len(debs), err)
	}
	root := filepath.Join(tmp, "root")
	if out, err := exec.Command("dpkg", "-x", debs[0], root).CombinedOutput(); err != nil {
		return "", fmt.Errorf("dpkg -x %s: %w: %s", debs[0], err, out)
	}
	return dir, os.Rename(root, dir)
}

func (d *debian) run(dir, name string, args ...string) error {
	cmd := exec.Command(name, append(d.options, args...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
