package sandbox

import (
	"strings"
	"sync"

	"github.com/seed-5a9fb6e0/sandbox/internal/seccomp"
	"github.com/seed-5a9fb6e0/sandbox/internal/world"
)

// filters are those that were made, by what they were made of.
var filters struct {
	sync.Mutex
	made map[filterKey]*seccomp.Filter
}

// A filterKey has the capabilities that rules of Docker's profile depend on.
type filterKey struct {
	profile string
	nesting bool
	notify  string
	caps    world.CapSet
}

// maxFilters bounds them: a program has few profiles, and one with many makes them anew.
const maxFilters = 64

// resolve is what s asks for; without a filter it is nil.
func (s Security) resolve() (world.CapSet, *seccomp.Filter, error) {
	caps, err := s.capabilities()
	if err != nil {
		return 0, nil, err
	}
	f, err := s.filter(caps)
	return caps, f, err
}

func (s Security) capabilities() (world.CapSet, error) {
	caps, err := world.ParseCapabilities(s.Capabilities)
	if s.Nesting && s.Capabilities == "" {
		caps |= world.NestingCapability
	}
	return caps, err
}

func (s Security) filter(caps world.CapSet) (*seccomp.Filter, error) {
	if s.Seccomp == "off" {
		return nil, nil
	}
	key := filterKey{s.Seccomp, s.Nesting, s.notified(), caps}
	filters.Lock()
	defer filters.Unlock()
	if f := filters.made[key]; f != nil {
		return f, nil
	}
	p, err := s.profile(caps.Names())
	if err == nil && s.Nesting && (s.Seccomp == "" || s.Seccomp == "docker") {
		err = p.Nest()
	}
	if err == nil && s.Notify != nil {
		err = p.Allow(s.Notify.Calls...)
	}
	if err != nil {
		return nil, err
	}
	f, err := p.Compile(seccomp.Machine)
	if err != nil {
		return nil, err
	}
	if filters.made == nil || len(filters.made) >= maxFilters {
		filters.made = map[filterKey]*seccomp.Filter{}
	}
	filters.made[key] = f
	return f, nil
}

// notified are the calls of Notify, in one string.
func (s Security) notified() string {
	if s.Notify == nil {
		return ""
	}
	return strings.Join(s.Notify.Calls, ",")
}

func (s Security) profile(caps []string) (*seccomp.Profile, error) {
	switch s.Seccomp {
	case "":
		return seccomp.Default(caps)
	case "strict":
		return seccomp.Strict(caps)
	case "docker":
		return seccomp.Docker(caps)
	}
	return seccomp.Load([]byte(s.Seccomp), caps)
}

func checkDevice(path string) error { return world.CheckDevice(path) }

// checkCapabilities and checkSeccomp are what is wrong with s.
func (s Security) checkCapabilities() error {
	_, err := s.capabilities()
	return err
}

func (s Security) checkSeccomp() error {
	caps, err := s.capabilities()
	if err != nil {
		caps = world.DefaultCapabilities // a fault of another field
	}
	_, err = s.filter(caps)
	return err
}
