//go:build unix

package testenv

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A procID names a process for good: its number may come again, its start time (in ticks since boot) not with it.
type procID struct {
	pid   int
	start string
}

type proc struct {
	procID
	parent  int
	command string
	state   string
}

func (p proc) String() string {
	return fmt.Sprintf("%d %q, state %s, parent %d", p.pid, p.command, p.state, p.parent)
}

func (p proc) path(elem ...string) string {
	return filepath.Join(append([]string{"/proc", strconv.Itoa(p.pid)}, elem...)...)
}

// namespaces are those that it is in, as far as we may look.
func (p proc) namespaces() []string {
	links, err := filepath.Glob(p.path("ns", "*"))
	if err != nil {
		panic(err) // the pattern is a constant
	}
	var found []string
	for _, link := range links {
		if ns, err := os.Readlink(link); err == nil {
			found = append(found, ns)
		}
	}
	return found
}

// mark is the mark of the test process that it descends from, by the environment with which it was started.
func (p proc) mark() string {
	env, err := os.ReadFile(p.path("environ"))
	if err != nil {
		return ""
	}
	for v := range bytes.SplitSeq(env, []byte{0}) {
		if mark, ok := bytes.CutPrefix(v, []byte(markEnv+"=")); ok {
			return string(mark)
		}
	}
	return ""
}

// readProcesses returns all but kernel threads. One that ends while we read is left out.
func readProcesses() (map[int]proc, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	all := map[int]proc{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		if p, ok := parseStat(pid, string(stat)); ok {
			all[pid] = p
		}
	}
	return all, nil
}

// parseStat reads a line of /proc/PID/stat (proc_pid_stat(5)); not ok for a kernel thread.
func parseStat(pid int, stat string) (proc, bool) {
	const kthread = 0x200000 // PF_KTHREAD
	open, shut := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if open < 0 || shut < open {
		return proc{}, false
	}
	f := strings.Fields(stat[shut+1:]) // f[0] is field 3, the state
	if len(f) < 20 {
		return proc{}, false
	}
	parent, err1 := strconv.Atoi(f[1])
	flags, err2 := strconv.ParseUint(f[6], 10, 64)
	if err1 != nil || err2 != nil || flags&kthread != 0 {
		return proc{}, false
	}
	return proc{procID{pid, f[19]}, parent, stat[open+1 : shut], f[0]}, true
}

// ownProcesses lists what descends from this process, zombies included, or carries its mark.
func ownProcesses(s *scope) (map[string]string, error) {
	return s.selectProcesses(s.isOwn)
}

// orphans lists what lost its parent and lives in a namespace that was not there before. Its environment may be
// anything, so nothing says whose it is.
func orphans(s *scope) (map[string]string, error) {
	others := lockHolders(s.lock)
	return s.selectProcesses(func(p proc, all map[int]proc) bool {
		return !s.isOwn(p, all) && s.isOrphan(p, all, others)
	})
}

func (s *scope) selectProcesses(want func(proc, map[int]proc) bool) (map[string]string, error) {
	all, err := readProcesses()
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, p := range all {
		if p.pid != os.Getpid() && want(p, all) {
			found[fmt.Sprint(p.procID)] = p.String()
		}
	}
	return found, nil
}

func (s *scope) isOwn(p proc, all map[int]proc) bool {
	for a, ok := p, true; ok && a.pid > 1; a, ok = all[a.parent] {
		if a.pid == os.Getpid() {
			return true
		}
		// Nested, the mark is also that of what else the test process above started.
		if !s.nested && !s.processes[a.procID] && a.mark() == s.mark {
			return true
		}
	}
	return false
}

// isOrphan looks at the topmost process above p that is new: what another program started is below that one's process,
// which is in the namespaces of the host.
// The dead whose parent is the machine's init are that one's to wait for, which takes it seconds at times.
func (s *scope) isOrphan(p proc, all map[int]proc, others map[int]bool) bool {
	if p.state == "Z" && p.parent == 1 {
		return false
	}
	top := p
	for a, ok := p, true; ok && a.pid > 1 && !s.processes[a.procID]; a, ok = all[a.parent] {
		if others[a.pid] || a.mark() != "" {
			return false // another test run's
		}
		top = a
	}
	if s.processes[top.procID] {
		return false
	}
	for _, ns := range top.namespaces() {
		if !s.hostNS[ns] {
			return true
		}
	}
	return false
}
