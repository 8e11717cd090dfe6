package cgroup

import (
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// meterBudget is how many descriptors the meters of a tree hold at most: they save time, and never take the last ones.
const meterBudget = 1024

// meters are files of a leaf that Usage and Events read, opened ahead: to open one costs ten times the read.
type meters struct {
	mu     sync.Mutex // held while the files are read, so that nobody closes them meanwhile
	files  map[string]int
	budget *atomic.Int64 // what is used of the tree's
}

// meterFiles are named in the order in which a budget that runs out is spent.
var meterFiles = [...]struct {
	c      Controllers
	v1, v2 string
}{
	{CPUAcct, "cpuacct.usage", "cpu.stat"}, {CPUAcct, "cpuacct.usage_user", ""}, {CPUAcct, "cpuacct.usage_sys", ""},
	{Memory, "memory.max_usage_in_bytes", "memory.peak"}, {Memory, "memory.usage_in_bytes", "memory.current"},
	{Memory, "memory.failcnt", "memory.events.local"}, {Memory, "memory.memsw.failcnt", ""}, {Memory, "memory.oom_control", ""},
	{PIDs, "pids.current", "pids.current"}, {PIDs, "pids.peak", "pids.peak"}, {PIDs, "pids.events", "pids.events.local"},
	{CPU, "cpu.stat", ""},
}

// openMeters opens what it can; Usage opens the others when it is called.
func (g *Group) openMeters() {
	m := &g.meters
	m.mu.Lock()
	defer m.mu.Unlock()
	m.budget = &g.tree.meters
	m.files = map[string]int{}
	for _, f := range meterFiles {
		h := g.in(f.c)
		if h == nil {
			continue
		}
		name := f.v1
		if h.v2 {
			name = f.v2
		}
		if name != "" && !m.open(g.dir(h)+"/"+name) {
			return
		}
	}
}

// open says whether there is budget for more.
func (m *meters) open(path string) bool {
	if m.budget.Add(1) > meterBudget {
		m.budget.Add(-1)
		return false
	}
	fd, err := openFile(path, unix.O_RDONLY)
	if err != nil {
		m.budget.Add(-1)
		return true
	}
	_, _ = readSmall(fd) // The first read allocates the kernel's buffer.
	m.files[path] = fd
	return true
}

func (m *meters) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, fd := range m.files {
		_ = unix.Close(fd)
		m.budget.Add(-1)
	}
	m.files = nil
}

// read is readFile for a file that may be open; m.mu is held.
func (m *meters) read(path string) (string, error) {
	fd, ok := m.files[path]
	if !ok {
		return readFile(path)
	}
	s, err := readSmall(fd)
	return s, pathError("read", path, err)
}

// readSmall reads a file that the kernel writes as one piece: what fits into the buffer is all of it.
func readSmall(fd int) (string, error) {
	var buf [1024]byte
	for {
		n, err := unix.Pread(fd, buf[:], 0)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return "", err
		case n == len(buf):
			return readAll(fd)
		default:
			return strings.TrimSpace(string(buf[:n])), nil
		}
	}
}
