package sandbox

import (
	"errors"
	"os"
	"sync"

	"github.com/seed-5a9fb6e0/sandbox/internal/store"
	"github.com/seed-5a9fb6e0/sandbox/internal/tinyinit"
)

// programs are those that stand beside commands. A Store has each open from the first that needs it on.
type programs struct {
	init  programFile // PID 1 in front of a command with Cmd.Init
	guard programFile // what kills the other ones when the embedder has ended
}

// initProgram returns that of Cmd.Init; it is the Store's.
func (s *Store) initProgram() (*os.File, error) { return s.programs.init.get(s, tinyinit.Open) }

// guardProgram returns the guard's; it is the Store's.
func (s *Store) guardProgram() (*os.File, error) { return s.programs.guard.get(s, tinyinit.OpenGuard) }

func (p *programs) close() error { return errors.Join(p.init.close(), p.guard.close()) }

type programFile struct {
	mu sync.Mutex
	f  *os.File
}

func (p *programFile) get(s *Store, open func(dir string) (*os.File, error)) (*os.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.f != nil {
		return p.f, nil
	}
	dir, err := s.state.Sub(store.Tmp)
	if err != nil {
		return nil, err
	}
	p.f, err = open(dir)
	return p.f, err
}

func (p *programFile) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.f == nil {
		return nil
	}
	f := p.f
	p.f = nil
	return f.Close()
}
