package spawn

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A thread makes children. PR_SET_PDEATHSIG kills a child when the thread that
// made it ends (prctl(2)), and Go ends a thread when a goroutine exits locked
// to it: so commands are made only by threads that stay locked to goroutines
// of ours, which never exit, or to one that waits for the command's end. There
// are at most as many of ours as programs that ever ran at once, and never more
// than maxThreads.
type thread struct {
	jobs  chan job
	ended chan struct{}
	self  int    // the embedder's pidfd, which all share
	sock  [2]int // descriptors come back over it; [1] is the child's end
}

// A job is run by a thread, which then closes done and is idle again.
type job struct {
	run  func(*thread)
	done chan struct{}
}

// maxThreads bounds how many programs run at once. A program takes well under
// a millisecond; more than a few for each processor gain nothing.
var maxThreads = sync.OnceValue(func() int { return 4 * runtime.GOMAXPROCS(0) })

// threads keeps the idle ones, the last used on top.
var threads struct {
	once  sync.Once
	slots chan struct{} // one for each running program
	mu    sync.Mutex
	idle  []*thread
}

// onThread runs f on a spawning thread. When ctx ends while f runs, f's child
// has been killed, and f is given a grace to see it end; a child that hangs in
// the kernel then keeps its thread, and the caller goes on with a *HungError.
func onThread(ctx context.Context, f func(*thread)) error {
	if err := takeSlot(ctx); err != nil {
		return err
	}
	t, err := idleThread()
	if err != nil {
		<-threads.slots
		return err
	}
	done := make(chan struct{})
	t.jobs <- job{f, done}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-done:
		return nil
	case <-time.After(killGrace):
		return &HungError{Cause: context.Cause(ctx)}
	}
}

// takeSlot waits until one program more may run.
func takeSlot(ctx context.Context) error {
	threads.once.Do(func() { threads.slots = make(chan struct{}, maxThreads()) })
	select {
	case threads.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// killGrace is how long a killed child may take to end.
const killGrace = 5 * time.Second

// HungError says that a killed child did not end: it hangs in the kernel, as
// in a read from a file server that does not answer.
type HungError struct{ Cause error }

func (e *HungError) Error() string {
	return fmt.Sprintf("spawn: the child hangs in the kernel %v after it was killed (%v)", killGrace, e.Cause)
}

func (e *HungError) Unwrap() error { return e.Cause }

func idleThread() (*thread, error) {
	threads.mu.Lock()
	defer threads.mu.Unlock()
	if n := len(threads.idle); n > 0 {
		t := threads.idle[n-1]
		threads.idle = threads.idle[:n-1]
		return t, nil
	}
	return newThread()
}

func newThread() (*thread, error) {
	t, err := newLine()
	if err != nil {
		return nil, err
	}
	t.jobs, t.ended = make(chan job), make(chan struct{})
	go t.loop()
	return t, nil
}

// newLine makes what any thread needs to make children.
func newLine() (t *thread, err error) {
	t = &thread{}
	if t.self, err = ownPidfd(); err != nil {
		return nil, err
	}
	if t.sock, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	return t, nil
}

func (t *thread) close() { closeAll(t.sock[:]) }

// self is the embedder's own pidfd. It is opened once and early: the lower its
// number, the less a child that is born in a PID namespace copies.
var self struct {
	mu   sync.Mutex
	fd   int
	open bool
}

func ownPidfd() (fd int, err error) {
	self.mu.Lock()
	defer self.mu.Unlock()
	if self.open {
		return self.fd, nil
	}
	if self.fd, err = unix.PidfdOpen(os.Getpid(), 0); err != nil {
		return -1, os.NewSyscallError("pidfd_open", err)
	}
	self.open = true
	return self.fd, nil
}

// lines keeps those that callers' own threads used last: they need no goroutine.
var lines struct {
	mu   sync.Mutex
	idle []*thread
}

// here runs f on the caller's thread, which saves the way to one of ours and
// back: two wake-ups, a third of what an os/exec takes.
func here(ctx context.Context, f func(*thread)) error {
	if err := takeSlot(ctx); err != nil {
		return err
	}
	defer func() { <-threads.slots }()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	lines.mu.Lock()
	var t *thread
	if n := len(lines.idle); n > 0 {
		t, lines.idle = lines.idle[n-1], lines.idle[:n-1]
	}
	lines.mu.Unlock()
	if t == nil {
		var err error
		if t, err = newLine(); err != nil {
			return err
		}
	}
	f(t)
	lines.mu.Lock()
	defer lines.mu.Unlock()
	lines.idle = append(lines.idle, t)
	return nil
}

// Release ends the idle threads. The kernel then kills the commands that they
// made: it is for tests that count what is left at their end.
func Release() {
	theGuard.release()
	threads.mu.Lock()
	idle := threads.idle
	threads.idle = nil
	threads.mu.Unlock()
	for _, t := range idle {
		close(t.jobs)
		<-t.ended
	}
	lines.mu.Lock()
	defer lines.mu.Unlock()
	for _, t := range lines.idle {
		t.close()
	}
	lines.idle = nil
	self.mu.Lock()
	defer self.mu.Unlock()
	if self.open {
		unix.Close(self.fd)
	}
	self.open = false
}

// loop runs for as long as the process does, Release aside.
func (t *thread) loop() {
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
	defer close(t.ended)
	defer t.close()
	for j := range t.jobs {
		j.run(t)
		threads.mu.Lock()
		threads.idle = append(threads.idle, t)
		threads.mu.Unlock()
		<-threads.slots
		close(j.done)
	}
}
