//go:build linux

package vmtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// debian gets packages of another architecture or release from where this machine's own come, into a directory of the
// user's cache. Nothing of it is installed, and apt's own lists stay as they are.
type debian struct {
	dir     string
	options []string
	updated bool // the lists are those of today
}

// newDebian opens the cache for an architecture and the code name of a release; "" is that of the machine.
func newDebian(arch, release string) (*debian, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	own, err := ownSources()
	if err != nil {
		return nil, err
	}
	if release == "" {
		release = own[0].release
	}
	d := &debian{dir: filepath.Join(cache, "sandbox-vmtest", release+"-"+arch)}
	for _, sub := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(d.dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	list := filepath.Join(d.dir, "sources.list")
	for _, o := range []string{
		"APT::Architecture=" + arch, "APT::Architectures=" + arch, "APT::Sandbox::User=root",
		"Dir::Etc::sourcelist=" + list, "Dir::Etc::sourceparts=/dev/null", "Dir::State::status=/dev/null",
		"Dir::State::lists=" + filepath.Join(d.dir, "lists"), "Dir::Cache=" + filepath.Join(d.dir, "cache"),
		"Acquire::Retries=3", "Acquire::Check-Valid-Until=false", // the lists of an old release are not renewed
	} {
		d.options = append(d.options, "-o", o)
	}
	var text strings.Builder
	for _, s := range own {
		fmt.Fprintf(&text, "deb [arch=%s] %s %s main\n", arch, s.uri, release+strings.TrimPrefix(s.release, own[0].release))
	}
	return d, os.WriteFile(list, []byte(text.String()), 0o644)
}

// A source is an archive and its release: "bookworm", "bookworm-security".
type source struct{ uri, release string }

// ownSources are those that this machine has, by apt-get(8), the plain release first.
func ownSources() ([]source, error) {
	out, err := exec.Command("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Origin: Debian", "Component: main").Output()
	if err != nil {
		return nil, fmt.Errorf("apt-get indextargets: %w", err)
	}
	var all []source
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) == 2 && !slices.Contains(all, source{f[0], f[1]}) {
			all = append(all, source{f[0], f[1]})
		}
	}
	if len(all) == 0 {
		return nil, errors.New("apt-get indextargets: no Debian archive is configured (apt-get update?)")
	}
	slices.SortStableFunc(all, func(a, b source) int { return strings.Count(a.release, "-") - strings.Count(b.release, "-") })
	return all, nil
}

// once returns d.dir/name, which fill makes if it isn't there: whole, and by one process.
func (d *debian) once(name string, fill func(tmp string) error) (string, error) {
	path := filepath.Join(d.dir, name)
	lock, err := os.OpenFile(filepath.Join(d.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %q: %w", lock.Name(), err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	tmp, err := os.MkdirTemp(d.dir, "new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := fill(tmp); err != nil {
		return "", err
	}
	return path, os.Rename(filepath.Join(tmp, "made"), path)
}

// unpacked returns the directory with the content of a package, or of the first that it depends on; it is fetched once.
func (d *debian) unpacked(name string, dependency bool) (string, error) {
	return d.once(name, func(tmp string) error {
		if err := d.update(); err != nil {
			return err
		}
		target := name
		if dependency {
			out, err := exec.Command("apt-cache", append(d.options, "depends", name)...).Output()
			if err != nil {
				return fmt.Errorf("apt-cache depends %s: %w", name, err)
			}
			_, rest, _ := strings.Cut(string(out), "Depends: ")
			target, _, _ = strings.Cut(rest, "\n")
		}
		if err := d.run(tmp, "apt-get", "-qq", "download", target); err != nil {
			return err
		}
		debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
		if err != nil || len(debs) != 1 {
			return fmt.Errorf("apt-get download %s: %d packages (%v)", target, len(debs), err)
		}
		return command(tmp, "dpkg", "-x", debs[0], "made")
	})
}

// update reads the lists of the archives once.
func (d *debian) update() error {
	if d.updated {
		return nil
	}
	d.updated = true
	return d.run(d.dir, "apt-get", "-qq", "update")
}

func (d *debian) run(dir, name string, args ...string) error {
	return command(dir, name, append(slices.Clone(d.options), args...)...)
}

// command runs a program of the machine; what it printed is in the error.
func command(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
