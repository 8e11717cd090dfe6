package cgroup

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Tree is one owner's own part of the cgroup hierarchies: nothing outside of it is ever changed, but for the parent
// directory that its groups are made in. A tree without groups has no directory. All methods may be called
// concurrently.
type Tree struct {
	opts Options
	m    *machine
	root *Group
	bg   background

	meters atomic.Int64 // descriptors that Group.meters hold

	// mu serialises the making of directories. Lock order: Tree.mu, meters.mu, pool.mu, Group.mu, from parent to
	// child; background.mu and hierarchy.mu are inmost.
	mu      sync.Mutex
	closed  bool
	parents []string // directories of Options.Parent that we made, outer ones first
}

// Open finds out what is mounted and checks o; nothing is made before the first group is. Errors: fs.ErrInvalid (a
// *FieldError for each fault), errors.ErrUnsupported (*UnsupportedError for each of o.Controllers that is not there).
func Open(o Options) (*Tree, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	m, err := detect(o.Parent)
	if err != nil {
		return nil, err
	}
	if err := m.check(o.Controllers); err != nil {
		return nil, err
	}
	if err := m.domain(); err != nil {
		return nil, err
	}
	t := &Tree{opts: o, m: m}
	t.root = &Group{tree: t, name: o.Name, rel: o.prefix(), children: map[string]*Group{}}
	t.root.pool.parent = t.root
	t.bg.init()
	return t, nil
}

// Mode says which cgroup versions are mounted.
func (t *Tree) Mode() Mode { return t.m.mode }

// Available is what groups could have here, the privilege to make them not considered.
func (t *Tree) Available() Controllers { return t.m.available() }

// New makes a group at the top of the tree; see Group.New.
func (t *Tree) New(name string, l Limits) (*Group, error) { return t.root.New(name, l) }

// Leaf takes a leaf at the top of the tree; see Group.Leaf.
func (t *Tree) Leaf(ctx context.Context, l Limits) (*Group, error) { return t.root.Leaf(ctx, l) }

// Close kills what lives in the tree, waits for removals in the background and removes all that the tree made. What
// it began it goes on with when it is called again, as after the end of ctx. A second Close of a closed tree is nil.
func (t *Tree) Close(ctx context.Context) error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.root.drain()
	t.root.shut()
	t.root.dropFiles()
	err := t.bg.wait(ctx)
	if err == nil {
		err = end(ctx, t.places())
	}
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.root.dropFiles()
	for _, c := range t.root.below() {
		c.forget()
	}
	t.dropHierarchies()
	removeParents(t.parents)
	t.parents = nil
	return nil
}

// Flush removes at once, and waits for it, what Release left to the background, and what is kept to make the next call
// cheap: prepared leaves and descriptors. A tree whose groups have all been released has no directory and no descriptor
// after it, and can be used on. It ends early with ctx.
func (t *Tree) Flush(ctx context.Context) error {
	t.root.rest()
	if err := t.bg.flush(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.root.below()) == 0 {
		t.dropHierarchies()
	}
	return nil
}

// places are all directories that the tree has. None is on its way from one group to another (Group.successor) under
// Tree.mu, and none sets out in a closed tree.
func (t *Tree) places() []place {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.root.places()
}

func (t *Tree) dropHierarchies() {
	for _, h := range t.m.hier {
		h.drop()
	}
}

// end removes ps and all below, and kills who is in the way.
func end(ctx context.Context, ps []place) error {
	if err := removeOnce(ps); !errors.Is(err, unix.EBUSY) {
		return err
	}
	if err := (killer{ps, true}).all(ctx); err != nil {
		return err
	}
	return removeAll(ctx, ps)
}

// removeParents removes what is empty; another tree may live in it.
func removeParents(dirs []string) {
	for i := len(dirs) - 1; i >= 0; i-- {
		_ = rmdir(dirs[i])
	}
}

// Recover ends what a dead owner left: it kills the processes in the groups of that Options.Parent and Options.Name
// and removes them. That there are none is no error; a living owner would lose all that it has. It refuses a tree
// in which the calling process lives.
func Recover(ctx context.Context, parent, name string) error {
	o := Options{Parent: parent, Name: name}
	if err := o.validate(); err != nil {
		return err
	}
	m, err := detect(parent)
	if err != nil {
		return err
	}
	ps, err := m.find(o.prefix())
	if err != nil {
		return err
	}
	return end(ctx, ps)
}

// find lists the directories in the parents whose names begin so.
func (m *machine) find(prefix string) ([]place, error) {
	var ps []place
	for _, h := range m.hier {
		entries, err := os.ReadDir(h.parent)
		if err = ignoreGone(err); err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.IsDir() && strings.HasPrefix(e.Name(), prefix) {
				ps = append(ps, place{h.parent + "/" + e.Name(), h})
			}
		}
	}
	return ps, nil
}

// errClosed is the answer of a group or tree that was closed.
func errClosed(op, object string) error { return pathError(op, object, os.ErrClosed) }

// errOwn guards against killing the caller.
var errOwn = errors.New("the calling process lives in it")
