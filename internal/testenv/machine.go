//go:build unix

package testenv

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A mountLine is what we need of a line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
type mountLine struct {
	root, point, fstype, source, options string
}

func readMounts() ([]mountLine, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var all []mountLine
	for line := range strings.Lines(string(text)) {
		front, back, ok := strings.Cut(line, " - ")
		f, b := strings.Fields(front), strings.Fields(back)
		if !ok || len(f) < 6 || len(b) < 3 {
			return nil, fmt.Errorf("mountinfo: %q: not a mount", line)
		}
		all = append(all, mountLine{root: f[3], point: f[4], fstype: b[0], source: b[1], options: b[2]})
	}
	return all, nil
}

// mounts lists those of this mount namespace, each of a stack for itself.
func mounts(*scope) (map[string]string, error) {
	all, err := readMounts()
	if err != nil {
		return nil, err
	}
	found, times := map[string]string{}, map[string]int{}
	for _, m := range all {
		what := fmt.Sprintf("%s (%s %s, root %s)", m.point, m.fstype, m.source, m.root)
		times[what]++
		found[fmt.Sprintf("%s #%d", what, times[what])] = what
	}
	return found, nil
}

// A cgroupTree is a mounted hierarchy: where it is, and which directory of it this process is in ("/": the root).
type cgroupTree struct{ dir, own string }

func cgroupTrees() ([]cgroupTree, error) {
	all, err := readMounts()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a kernel without cgroups
	}
	if err != nil {
		return nil, err
	}
	own := map[string]string{} // by controllers, "" for v2
	for line := range strings.Lines(strings.TrimSpace(string(text))) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 {
			own[f[1]] = f[2]
		}
	}
	var trees []cgroupTree
	for _, m := range all {
		switch m.fstype {
		case "cgroup2":
			trees = append(trees, cgroupTree{m.point, own[""]})
		case "cgroup":
			trees = append(trees, cgroupTree{m.point, ownV1(own, m.options)})
		}
	}
	return trees, nil
}

// ownV1 finds the line of /proc/self/cgroup for a hierarchy with these mount options ("rw,cpu,cpuacct").
func ownV1(own map[string]string, options string) string {
	for controllers, dir := range own {
		if controllers != "" && strings.Contains(","+options+",", ","+controllers+",") {
			return dir
		}
	}
	return "/"
}

// cgroups lists the directories of every hierarchy, but for those below another program's: a service manager makes and
// removes groups in slices that it had before. What is below our own cgroup, or called sandbox…, is ours.
func cgroups(s *scope) (map[string]string, error) {
	trees, err := cgroupTrees()
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, tree := range trees {
		err := filepath.WalkDir(tree.dir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
				return nil // removed while we looked; not ours to see
			}
			if err == nil && d.IsDir() && path != tree.dir && s.mayBeOurs(tree.dir, path) && madeByUser(path) {
				found[path] = path
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// madeByUser reports whether we could have made the directory: root any, a user only one that is his.
func madeByUser(path string) bool {
	var st unix.Stat_t
	return os.Getuid() == 0 || (unix.Stat(path, &st) == nil && int(st.Uid) == os.Getuid())
}

func (s *scope) mayBeOurs(tree, path string) bool {
	for _, own := range s.cgroups {
		if strings.HasPrefix(path, own) {
			return true
		}
	}
	top, _, _ := strings.Cut(strings.TrimPrefix(path, tree+"/"), "/")
	return strings.HasPrefix(top, "sandbox") || !s.slices[tree+"/"+top]
}

// links lists the network interfaces of this network namespace.
func links(*scope) (map[string]string, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, l := range all {
		what := fmt.Sprintf("%d %s", l.Index, l.Name)
		found[what] = what
	}
	return found, nil
}

// tables lists the nftables tables of this network namespace, where `nft` is installed and we may ask.
func tables(*scope) (map[string]string, error) {
	nft, err := exec.LookPath("nft")
	if err != nil || os.Getuid() != 0 {
		return nil, nil
	}
	out, err := exec.Command(nft, "list", "tables").Output()
	if err != nil {
		return nil, fmt.Errorf("nft list tables: %w", err)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		found[line] = line
	}
	return found, nil
}

// files lists what is in the directories that the package named.
func files(s *scope) (map[string]string, error) {
	found := map[string]string{}
	for _, dir := range s.options.Dirs {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && path != dir {
				found[path] = path
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}
