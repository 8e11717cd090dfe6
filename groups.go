package sandbox

import (
	"context"

	"github.com/seed-5a9fb6e0/sandbox/cgroup"
)

// The cgroups of a store's sandboxes are in one tree of this program's, which
// is there only while a sandbox is: a program that ends leaves none behind.

// useGroups says whether there can be cgroups; if so, releaseGroups must follow.
func (s *Store) useGroups() bool {
	s.groupsMu.Lock()
	defer s.groupsMu.Unlock()
	if s.groups == nil {
		return false
	}
	s.groupUsers++
	return true
}

func (s *Store) tree() *cgroup.Tree {
	s.groupsMu.Lock()
	defer s.groupsMu.Unlock()
	return s.groups
}

// releaseGroups removes what is left of the tree with the last sandbox.
func (s *Store) releaseGroups(ctx context.Context) error {
	s.groupsMu.Lock()
	defer s.groupsMu.Unlock()
	if s.groupUsers--; s.groupUsers > 0 {
		return nil
	}
	return s.groups.Flush(ctx)
}

func (s *Store) openTree() (*cgroup.Tree, error) {
	return cgroup.Open(cgroup.Options{Parent: s.options.cgroupParent, Name: s.state.Owner(), Controllers: cgroup.Accounting})
}
