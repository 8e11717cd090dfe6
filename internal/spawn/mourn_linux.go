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
	ending  func()            // is called again and again while it is about to end
	pids    uint64            // its PID namespace; 0: not known
	strays  map[int]time.Time // children of ours in there that nobody knows, since when
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

// Attend has p, which others are started beside of, be looked after before it is killed, too. ending is called, more than once,
// while p is about to end, for which all beside it must have been waited for.
func (p *Process) Attend(ending func()) {
	m := &p.mourner
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ending = ending
	if m.timer == nil {
		m.schedule(p, attendDelay)
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
	if ending := m.lookOnce(p); ending != nil {
		ending()
	}
}

// lookOnce does what is to be done now. It returns what is to be called then, if p is ending.
func (m *mourner) lookOnce(p *Process) (ending func()) {
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
	if m.pids == 0 {
		m.pids, _ = pidNamespaceOf(p.PID)
	}
	if p.init != nil {
		reapThreads(p.init.PID)
	}
	reapThreads(p.PID)
	m.reapStrays()
	if !m.killed.IsZero() && time.Since(m.killed) > tracerAge && !p.guest && known.has(p.PID) {
		killTracers(p.PID, map[int]bool{})
	}
	m.schedule(p, mournDelay)
	if !over {
		return nil
	}
	return m.ending
}

// killTracers kills those who trace a process that has been killed and did not end, and who traces those, if they live in a PID
// namespace below ours: no debugger of the embedder's owner. They end with it in any case; those of one that was started
// beside others do not.
func killTracers(pid int, seen map[int]bool) {
	seen[pid] = true
	for _, tid := range threadsOf(pid) {
		thread := fmt.Sprintf("%d/task/%d", pid, tid)
		tracer := tracerOf(thread)
		if tracer == 0 || seen[tracer] {
			continue
		}
		fd, err := unix.PidfdOpen(tracer, 0)
		if err != nil {
			continue // it has ended
		}
		// It is the tracer still: the number is no other process's.
		if tracerOf(thread) == tracer && status(strconv.Itoa(tracer)).depth > status("self").depth {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // ESRCH: it has ended
			killTracers(tracer, seen)
		}
		unix.Close(fd)
	}
}

// tracerOf is the process one of whose threads traces another thread; 0: none does.
func tracerOf(thread string) int {
	tid := status(thread).tracer
	if tid == 0 {
		return 0
	}
	return status(strconv.Itoa(tid)).process
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

// reapStrays waits for children that have ended, live in its PID namespace or below, and are nobody's whom we know.
func (m *mourner) reapStrays() {
	seen := map[int]time.Time{}
	for _, pid := range ownChildren() {
		if known.has(pid) || status(strconv.Itoa(pid)).state != "Z" || !livesIn(pid, m.pids) {
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

// pidNamespaceOf identifies that of a process. It can't be told of one that is not dumpable, without CAP_SYS_PTRACE.
func pidNamespaceOf(pid int) (uint64, bool) {
	var st unix.Stat_t
	err := unix.Stat(fmt.Sprintf("/proc/%d/ns/pid", pid), &st)
	return st.Ino, err == nil
}

// livesIn says whether a process is in this PID namespace or one below it; where that can't be told, whether it is in one below
// ours.
func livesIn(pid int, pids uint64) bool {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/pid", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil || pids == 0 {
		if err == nil {
			unix.Close(fd)
		}
		return status(strconv.Itoa(pid)).depth > status("self").depth
	}
	for {
		var st unix.Stat_t
		parent, above := -1, unix.Fstat(fd, &st)
		if above == nil && st.Ino != pids {
			parent, above = unix.IoctlRetInt(fd, unix.NS_GET_PARENT) // EPERM: it is ours, or above
		}
		unix.Close(fd)
		if st.Ino == pids || above != nil {
			return st.Ino == pids
		}
		fd = parent
	}
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

// taskStatus is some of /proc/PID/status (proc_pid_status(5)).
type taskStatus struct {
	state   string
	depth   int // in how many PID namespaces it is seen
	process int // whose thread it is
	tracer  int // a thread; 0: none
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
		case f[0] == "Tgid:":
			s.process, _ = strconv.Atoi(f[1])
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
