package world

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// A stock has copies of a World's mount namespace made ahead, one for each
// command, and closes those of commands that have ended: the kernel takes some
// 30 µs to copy one and waits for an RCU grace period when one goes, and neither
// is then in a command's way. An idle World has one; one whose second command
// comes soon has more made.
type stock struct {
	mu     sync.Mutex
	ready  []int // namespaces that nobody was in
	ended  []int // those of commands that have ended
	uses   int   // since the stock was last idle
	used   time.Time
	idle   *time.Timer
	busy   bool // a goroutine is at work
	closed bool
	work   sync.WaitGroup
}

const (
	maxStock  = 16
	maxEnded  = 8
	stockIdle = 300 * time.Millisecond // then all but one are given up
)

// take returns a namespace for a command.
func (s *stock) take(ctx context.Context, w *World) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uses++
	s.touch(w)
	if len(s.ready) == 0 {
		return s.make(ctx, w)
	}
	fd := s.pop()
	if s.uses > 1 && len(s.ready) <= maxStock/4 {
		s.start(w)
	}
	return fd, nil
}

func (s *stock) pop() int {
	last := len(s.ready) - 1
	fd := s.ready[last]
	s.ready = s.ready[:last]
	return fd
}

// make makes a namespace now, and some for those who wait for the lock meanwhile.
func (s *stock) make(ctx context.Context, w *World) (int, error) {
	fds, err := w.copies(ctx, min(s.uses, maxStock/4))
	if err != nil {
		return -1, err
	}
	s.ready = append(s.ready, fds...)
	return s.pop(), nil
}

// put takes the namespace of a command that has ended.
func (s *stock) put(w *World, fd int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		unix.Close(fd)
		return
	}
	s.ended = append(s.ended, fd)
	s.touch(w)
	if len(s.ended) > maxEnded {
		s.start(w)
	}
}

// touch puts off the end of what is ready. s.mu is held.
func (s *stock) touch(w *World) {
	s.used = time.Now()
	if s.idle == nil {
		s.idle = time.AfterFunc(stockIdle, func() { s.expire(w) })
	}
}

// start has a goroutine close what has ended and make more. s.mu is held.
func (s *stock) start(w *World) {
	if s.busy || s.closed {
		return
	}
	s.busy = true
	s.work.Go(func() { s.fill(w) }) // ends when nothing is left to do; close waits for it
}

func (s *stock) fill(w *World) {
	for {
		ended, missing := s.todo()
		if len(ended) == 0 && missing == 0 {
			return
		}
		var fresh []int
		if missing > 0 {
			fresh, _ = w.copies(context.Background(), missing) // take meets the error
		}
		for _, fd := range ended {
			unix.Close(fd)
		}
		s.mu.Lock()
		s.ready = append(s.ready, fresh...)
		if len(fresh) < missing {
			s.uses = 1 // no more until somebody asks
		}
		s.mu.Unlock()
	}
}

// todo is what fill has to do; with nothing its goroutine ends.
func (s *stock) todo() (ended []int, missing int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.uses > 1 && len(s.ready) <= maxStock/2:
		missing = maxStock - len(s.ready)
	case s.uses == 0 && len(s.ready) == 0:
		missing = 1
	}
	if s.closed || len(s.ended) == 0 && missing == 0 {
		s.busy = false
		return nil, 0
	}
	ended, s.ended = s.ended, nil
	return ended, missing
}

// expire gives up what nobody has come for.
func (s *stock) expire(w *World) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if left := stockIdle - time.Since(s.used); left > 0 {
		s.idle.Reset(left)
		return
	}
	if keep := min(len(s.ready), 1); keep < len(s.ready) {
		s.ended = append(s.ended, s.ready[keep:]...)
		s.ready = s.ready[:keep]
	}
	s.uses, s.idle = 0, nil
	s.start(w)
}

// stop ends the work and returns what is to be closed.
func (s *stock) stop() []int {
	s.mu.Lock()
	s.closed = true
	if s.idle != nil {
		s.idle.Stop()
	}
	s.mu.Unlock()
	s.work.Wait()
	return append(s.ready, s.ended...)
}

// copies makes n copies of the mount namespace. The World's files are open: its
// Close waits for Starts and stops the stock.
func (w *World) copies(ctx context.Context, n int) ([]int, error) {
	fds, _, err := spawn.Run(ctx, func(p *spawn.Program) {
		user, mnt := p.Input(int(w.files[fileUser].Fd())), p.Input(int(w.files[fileMnt].Fd()))
		self := selfHandle(p)
		p.Do("setns", nsNames[fileUser], unix.SYS_SETNS, user, unix.CLONE_NEWUSER)
		p.Do("setns", nsNames[fileMnt], unix.SYS_SETNS, mnt, unix.CLONE_NEWNS)
		p.Send(copyMountNS(p, self, n)...)
	})
	return fds, err
}

// copyMountNS adds the calls that copy the mount namespace that the child is in n
// times; it ends up in the last.
func copyMountNS(p *spawn.Program, self spawn.Ref, n int) (copies []spawn.Ref) {
	for range n {
		p.Do("unshare", "mount namespace", unix.SYS_UNSHARE, unix.CLONE_NEWNS)
		copies = append(copies, ownNS(p, self, "mnt"))
	}
	return copies
}
