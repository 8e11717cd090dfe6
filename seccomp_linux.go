package sandbox

import (
	"strings"
	"sync"

	"github.com/seed-5a9fb6e0/sandbox/internal/seccomp"
	"github.com/seed-5a9fb6e0/sandbox/internal/world"
)

// filters are those that were made, by Security.Seccomp.
var filters struct {
	sync.Mutex
	made map[string]*seccomp.Filter
}

// maxFilters bounds them: a program has few profiles, and one with many makes them anew.
const maxFilters = 64

// filter is what s.Seccomp asks for; nil: nothing.
func (s Security) filter() (*seccomp.Filter, error) {
	if s.Seccomp == "off" {
		return nil, nil
	}
	filters.Lock()
	defer filters.Unlock()
	if f := filters.made[s.Seccomp]; f != nil {
		return f, nil
	}
	p, err := s.profile()
	if err != nil {
		return nil, err
	}
	f, err := p.Compile(seccomp.Machine)
	if err != nil {
		return nil, err
	}
	if filters.made == nil || len(filters.made) >= maxFilters {
		filters.made = map[string]*seccomp.Filter{}
	}
	filters.made[strings.Clone(s.Seccomp)] = f
	return f, nil
}

func (s Security) profile() (*seccomp.Profile, error) {
	switch s.Seccomp {
	case "":
		return seccomp.Default(world.Capabilities)
	case "strict":
		return seccomp.Strict(world.Capabilities)
	case "docker":
		return seccomp.Docker(world.Capabilities)
	}
	return seccomp.Load([]byte(s.Seccomp), world.Capabilities)
}

// check is what is wrong with s.
func (s Security) check() error {
	_, err := s.filter()
	return err
}
