package world

import (
	"context"
	"sync"
	"time"
)

// A stock has things made ahead of which every command takes one, and does away with those that were used: the kernel
// takes some 30 µs to copy a mount namespace and waits for an RCU grace period when one goes, and neither is then in a
// command's way. A stock that is idle has few; one whose second command comes soon has more made.
type stock[T any] struct {
	most int // how many are made ahead
	keep int // by one that is idle
	make func(ctx context.Context, n int) ([]T, error)
	drop func([]T)

	mu     sync.Mutex
	ready  []T
	ended  []T // to be dropped
	uses   int // since the stock was last idle
	used   time.Time
	idle   *time.Timer
	busy   bool // a goroutine is at work
	closed bool
	work   sync.WaitGroup
}

const (
	maxEnded  = 8
	stockIdle = 300 * time.Millisecond // then all but the least are given up
)

// take returns one for a command.
func (s *stock[T]) take(ctx context.Context) (T, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uses++
	s.touch()
	if len(s.ready) == 0 {
		if err := s.refill(ctx); err != nil {
			var none T
			return none, err
		}
	}
	last := len(s.ready) - 1
	t := s.ready[last]
	s.ready = s.ready[:last]
	if s.uses > 1 && len(s.ready) <= s.most/4 {
		s.start()
	}
	return t, nil
}

// refill makes one now, and some for those who wait for the lock meanwhile.
func (s *stock[T]) refill(ctx context.Context) error {
	fresh, err := s.make(ctx, min(s.uses, s.most/4))
	s.ready = append(s.ready, fresh...)
	return err
}

// put takes what a command has used.
func (s *stock[T]) put(t T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.drop([]T{t})
		return
	}
	s.ended = append(s.ended, t)
	s.touch()
	if len(s.ended) > maxEnded {
		s.start()
	}
}

// touch puts off the end of what is ready. s.mu is held.
func (s *stock[T]) touch() {
	s.used = time.Now()
	if s.idle == nil {
		s.idle = time.AfterFunc(stockIdle, s.expire)
	}
}

// start has a goroutine drop what has ended and make more. s.mu is held.
func (s *stock[T]) start() {
	if s.busy || s.closed {
		return
	}
	s.busy = true
	s.work.Go(s.fill) // ends when nothing is left to do; stop waits for it
}

func (s *stock[T]) fill() {
	for {
		ended, missing := s.todo()
		if len(ended) == 0 && missing == 0 {
			return
		}
		var fresh []T
		if missing > 0 {
			fresh, _ = s.make(context.Background(), missing) // take meets the error
		}
		s.drop(ended)
		s.mu.Lock()
		s.ready = append(s.ready, fresh...)
		if len(fresh) < missing {
			s.uses = 1 // no more until somebody asks
		}
		s.mu.Unlock()
	}
}

// todo is what fill has to do; with nothing its goroutine ends.
func (s *stock[T]) todo() (ended []T, missing int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.uses > 1 && len(s.ready) <= s.most/2:
		missing = s.most - len(s.ready)
	case s.uses == 0:
		missing = max(0, s.keep-len(s.ready))
	}
	if s.closed || len(s.ended) == 0 && missing == 0 {
		s.busy = false
		return nil, 0
	}
	ended, s.ended = s.ended, nil
	return ended, missing
}

// expire gives up what nobody has come for.
func (s *stock[T]) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if left := stockIdle - time.Since(s.used); left > 0 {
		s.idle.Reset(left)
		return
	}
	if keep := min(len(s.ready), s.keep); keep < len(s.ready) {
		s.ended = append(s.ended, s.ready[keep:]...)
		s.ready = s.ready[:keep]
	}
	s.uses, s.idle = 0, nil
	s.start()
}

// stop ends the work and returns what is to be dropped.
func (s *stock[T]) stop() []T {
	s.mu.Lock()
	s.closed = true
	if s.idle != nil {
		s.idle.Stop()
	}
	s.mu.Unlock()
	s.work.Wait()
	return append(s.ready, s.ended...)
}
