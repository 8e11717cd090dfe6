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

// A mourner sees to it that a process ends that has been killed, or had others beside it. Three things keep one from that
// for as long as we do nothing:
//
//   - a thread of the command that called PTRACE_TRACEME is our tracee, and stays a
//     zombie; until it is reaped its process can't be waited for (delay_group_leader
//     in kernel/exit.c);
//   - what the command made by clone with CLONE_PARENT is our child (a PID 1 can't do
//     that, a command behind an init or beside another can), and no PID namespace ends before all in it
//     have been waited for (zap_pid_ns_processes);
//   - a child that traces PID 1 stops it in its exit (PTRACE_O_TRACEEXIT), before that has killed the others.
type mourner struct {
	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
	killed  time.Time         // since then it has to end; zero: it may live
	ending  func()            // is called once when it is about to end
	strays  map[int]time.Time // children of ours that nobody knows, since when
}

const (
	mournDelay  = 20 * time.Millisecond  // a killed process is gone by then, usually
	attendDelay = 250 * time.Millisecond // between looks at one that may live
	strayAge    = 300 * time.Millisecond // a child that is being started is known by then
	tracerAge   = time.Second            // a debugger has taken note by then
)

// start begins to look after p, which has been killed.
func (m *mourner) start(p *Process) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.killed.IsZero() {
		m.killed = time.Now()
		m.schedule(p, mournDelay)
	}
}

// Attend has p, which others are started beside of, be looked after before it is killed, too. ending is called when it is
// about to end, which needs all beside it to have been waited for.
func (p *Process) Attend(ending func()) {
	m := &p.mourner
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ending == nil {
		m.ending = ending
		if m.timer == nil {
			m.schedule(p, attendDelay)
		}
	}
}

// schedule has look be called. m.mu is held.
func (m *mourner) schedule(p *Process, in time.Duration) {
	switch {
	case m.stopped:
	case m.timer == nil:
		m.timer = time.AfterFunc(in, func() { m.look(p) }) // until stop
	default:
		m.timer.Reset(in)
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
	if ending := m.once(p); ending != nil {
		ending()
	}
}

// once does what is to be done now, and returns what is to be called then.
func (m *mourner) once(p *Process) (ending func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped {
		return nil
	}
	over := p.Ending()
	if m.killed.IsZero() && !over {
		m.schedule(p, attendDelay)
		return nil
	}
	if over && m.ending != nil {
		ending, m.ending = m.ending, func() {}
	}
	reapThreads(p.PID)
	if p.init != nil {
		reapThreads(p.init.PID)
	}
	m.reapStrays()
	if !m.killed.IsZero() && time.Since(m.killed) > tracerAge && !p.guest && known.has(p.PID) {
		killTracers(p.PID)
	}
	m.schedule(p, mournDelay)
	return ending
}

// killTracers kills those who trace a process that has been killed and did not end, if they live in a PID namespace
// below ours: no debugger of the embedder's owner. They end with it in any case; those of one that was started beside
// others do not.
func killTracers(pid int) {
	for _, tid := range threadsOf(pid) {
		path := fmt.Sprintf("%d/task/%d", pid, tid)
		tracer := status(path).tracer
		if tracer == 0 || tracer == os.Getpid() {
			continue
		}
		fd, err := unix.PidfdOpen(tracer, 0)
		if err != nil {
			continue // it has ended
		}
		// It is the tracer still: the number is no other process's.
		if status(path).tracer == tracer && status(strconv.Itoa(tracer)).depth > status("self").depth {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // ESRCH: it has ended
		}
		unix.Close(fd)
	}
}

// threadsOf lists a process's threads.
func threadsOf(pid int) (tids []int) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil // it has ended
	}
	for _, t := range tasks {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			tids = append(tids, tid)
		}
	}
	return tids
}

// reapThreads waits for those threads of a process that are our tracees and have
// ended. Those that are not ours are ECHILD.
func reapThreads(pid int) {
	for _, tid := range threadsOf(pid) {
		if tid != pid {
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
	s := status(strconv.Itoa(pid))
	return s.state == "Z" && s.depth > status("self").depth
}

// taskStatus is some of /proc/PID/status (proc_pid_status(5)).
type taskStatus struct {
	state  string
	depth  int // in how many PID namespaces it is seen
	tracer int // 0: none
}

func status(task string) (s taskStatus) {
	text, _ := os.ReadFile("/proc/" + task + "/status")
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch {
		case len(f) < 2:
		case f[0] == "State:":
			s.state = f[1]
		case f[0] == "NSpid:":
			s.depth = len(f) - 1
		case f[0] == "TracerPid:":
			s.tracer, _ = strconv.Atoi(f[1])
		}
	}
	return s
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
