package spawn

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A mourner sees to it that a killed process ends. Two things keep one from that
// for as long as we do not wait for them, for both are ours to wait for:
//
//   - a thread of the command that called PTRACE_TRACEME is our tracee, and stays a
//     zombie; until it is reaped its process can't be waited for (delay_group_leader
//     in kernel/exit.c);
//   - what the command made by clone with CLONE_PARENT is our child (a PID 1 can't do
//     that, a command behind an init can), and no PID namespace ends before all in it
//     have been waited for (zap_pid_ns_processes).
type mourner struct {
	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
	strays  map[int]time.Time // children of ours that nobody knows, since when
}

const (
	mournDelay = 20 * time.Millisecond  // a killed process is gone by then, usually
	strayAge   = 300 * time.Millisecond // a child that is being started is known by then
)

// start begins to look after p, which has been killed.
func (m *mourner) start(p *Process) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.timer == nil && !m.stopped {
		m.timer = time.AfterFunc(mournDelay, func() { m.look(p) }) // until stop
	}
}

// stop is called when p has been waited for.
func (m *mourner) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopped = true
	if m.timer != nil {
		m.timer.Stop()
	}
}

func (m *mourner) look(p *Process) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped {
		return
	}
	reapThreads(p.PID)
	if p.init != nil {
		reapThreads(p.init.PID)
		m.reapStrays()
	}
	m.timer.Reset(mournDelay)
}

// reapThreads waits for those threads of a process that are our tracees and have
// ended. Those that are not ours are ECHILD.
func reapThreads(pid int) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return // it has ended
	}
	for _, t := range tasks {
		if tid, err := strconv.Atoi(t.Name()); err == nil && tid != pid {
			_, _ = unix.Wait4(tid, nil, unix.WNOHANG|unix.WALL, nil)
		}
	}
}

// reapStrays waits for children that have ended, live in a PID namespace below
// ours, and are nobody's whom we know.
func (m *mourner) reapStrays() {
	seen := map[int]time.Time{}
	for _, pid := range ownChildren() {
		if known.has(pid) || !endedBelow(pid) {
			continue
		}
		since, ok := m.strays[pid]
		if !ok {
			since = time.Now()
		}
		seen[pid] = since
		if time.Since(since) >= strayAge {
			reapThreads(pid)
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG|unix.WALL, nil)
		}
	}
	m.strays = seen
}

// ownChildren lists the children of all our threads (proc_pid_task_children(5)).
func ownChildren() (pids []int) {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil
	}
	for _, t := range tasks {
		text, _ := os.ReadFile("/proc/self/task/" + t.Name() + "/children") // none: the thread has ended
		for _, f := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(f); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// endedBelow says whether a process is a zombie with more pids than we have: one
// for each PID namespace that it is seen in (proc_pid_status(5), NSpid).
func endedBelow(pid int) bool {
	state, depth := status(strconv.Itoa(pid))
	_, own := status("self")
	return state == "Z" && depth > own
}

func status(pid string) (state string, depth int) {
	text, _ := os.ReadFile("/proc/" + pid + "/status")
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch {
		case len(f) < 2:
		case f[0] == "State:":
			state = f[1]
		case f[0] == "NSpid:":
			depth = len(f) - 1
		}
	}
	return state, depth
}

// known are the commands and inits that somebody waits for, by pid.
var known pidSet

type pidSet struct {
	mu   sync.Mutex
	pids map[int]bool
}

func (s *pidSet) add(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pids == nil {
		s.pids = map[int]bool{}
	}
	s.pids[pid] = true
}

func (s *pidSet) remove(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pids, pid)
}

func (s *pidSet) has(pid int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pids[pid]
}
