package sandbox

import (
	"os"
	"sync"

	"github.com/seed-5a9fb6e0/sandbox/internal/store"
	"github.com/seed-5a9fb6e0/sandbox/internal/tinyinit"
)

// An initFile is the program that is PID 1 in front of a command with Cmd.Init. A
// Store has it open from the first of those on.
type initFile struct {
	mu sync.Mutex
	f  *os.File
}

// initProgram returns it; it is the Store's.
func (s *Store) initProgram() (*os.File, error) {
	s.init.mu.Lock()
	defer s.init.mu.Unlock()
	if s.init.f != nil {
		return s.init.f, nil
	}
	dir, err := s.state.Sub(store.Tmp)
	if err != nil {
		return nil, err
	}
	s.init.f, err = tinyinit.Open(dir)
	return s.init.f, err
}

func (i *initFile) close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.f == nil {
		return nil
	}
	f := i.f
	i.f = nil
	return f.Close()
}
