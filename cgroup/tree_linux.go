package cgroup

import (
	"context"
	"errors"
	"os"
	"path"
	"sync"
	"sync/atomic"
)

// Tree is one owner's own part of the cgroup hierarchies: nothing outside of it is ever changed, but for the parent
// directory that it is made in. All methods may be called concurrently.
type Tree struct {
	opts Options
	m    *machine
	root *Group
	bg   background

	meters atomic.Int64 // descriptors that Group.meters hold

	// mu serialises the making of directories. Lock order: Tree.mu, pool.mu, Group.mu, from parent to child.
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
	t := &Tree{opts: o, m: m}
	t.root = &Group{tree: t, name: o.Name, rel: o.Name, children: map[string]*Group{}}
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
	ps := t.root.places()
	if err == nil {
		err = killAll(ctx, ps)
	}
	if err == nil {
		err = removeAll(ctx, ps)
	}
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.root.forget()
	t.root.dropFiles()
	removeParents(t.parents)
	t.parents = nil
	return nil
}

// removeParents removes what is empty; another tree may live in it.
func removeParents(dirs []string) {
	for i := len(dirs) - 1; i >= 0; i-- {
		_ = rmdir(dirs[i])
	}
}

// Recover ends what a dead owner left: it kills the processes in the tree of that parent ("" for the default) and name
// and removes it. A tree that is not there is no error; a living owner would lose all that it has. It refuses a tree
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
	var ps []place
	for _, h := range m.hier {
		if dir := path.Join(h.parent, name); exists(dir) {
			ps = append(ps, place{dir, h})
		}
	}
	if err := killAll(ctx, ps); err != nil {
		return err
	}
	if err := removeAll(ctx, ps); err != nil {
		return err
	}
	for _, p := range ps {
		if parent == "" {
			_ = rmdir(p.h.parent)
		}
	}
	return nil
}

// errClosed is the answer of a group or tree that was closed.
func errClosed(op, object string) error { return pathError(op, object, os.ErrClosed) }

// errOwn guards against killing the caller.
var errOwn = errors.New("the calling process lives in it")
