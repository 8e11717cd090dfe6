package cgroup

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// making records the directories of one New, so that a fault leaves none of them.
type making struct {
	t     *Tree
	steps []made
}

// made is a directory of a group, or of Options.Parent when the group is nil.
type made struct {
	g   *Group
	h   *hierarchy
	dir string
}

// undo removes what was made, inner directories first.
func (k *making) undo() {
	for _, s := range slices.Backward(k.steps) {
		_ = rmdir(s.dir)
		if s.g != nil {
			s.g.setMade(s.h, false)
			continue
		}
		k.t.parents = slices.DeleteFunc(k.t.parents, func(d string) bool { return d == s.dir })
	}
}

// ensure makes the directory of g in h, those above it first. Tree.mu is held.
func (k *making) ensure(g *Group, h *hierarchy) error {
	if g.parent == nil {
		return k.above(h)
	}
	if g.isMade(h) {
		return nil
	}
	if err := k.ensure(g.parent, h); err != nil {
		return err
	}
	dir, top := g.dir(h), g.parent.parent == nil
	if err := h.mkdir(dir); err != nil {
		return denied(h, err)
	}
	g.setMade(h, true)
	k.steps = append(k.steps, made{g, h, dir})
	if top && !h.nested {
		if err := h.write(dir+"/memory.use_hierarchy", "1"); err != nil {
			return denied(h, err)
		}
	}
	return initCPUSet(h, dir)
}

// above makes the tree's parent, where it was not seen to be there.
func (k *making) above(h *hierarchy) error {
	if h.isOpen() {
		return nil
	}
	if err := k.parents(h); err != nil {
		return denied(h, err)
	}
	h.hold()
	return nil
}

// parents makes the directories of Options.Parent that are not there.
func (k *making) parents(h *hierarchy) error {
	if k.t.opts.Parent == "" {
		return nil
	}
	rel := strings.TrimPrefix(h.parent, h.mount+"/")
	dir := h.mount
	for part := range strings.SplitSeq(rel, "/") {
		dir = path.Join(dir, part)
		err := mkdir(dir)
		switch {
		case errors.Is(err, fs.ErrExist):
			continue
		case errors.Is(err, unix.EROFS) && exists(dir):
			continue
		case err != nil:
			return err
		}
		k.t.parents = append(k.t.parents, dir)
		k.steps = append(k.steps, made{nil, h, dir})
		if err := initCPUSet(h, dir); err != nil {
			return err
		}
	}
	return nil
}

// initCPUSet gives a new v1 cpuset its parent's processors and memory nodes: without them no task can join, cpuset(7).
func initCPUSet(h *hierarchy, dir string) error {
	if h.v2 || h.ctl&CPUSet == 0 {
		return nil
	}
	for _, f := range []string{"/cpuset.mems", "/cpuset.cpus"} {
		v, err := h.read(path.Dir(dir) + f)
		if err == nil {
			err = h.write(dir+f, v)
		}
		if err != nil {
			return denied(h, err)
		}
	}
	return nil
}

// enable gives the directories from the parent of the tree down to that of g the v2 controllers that g needs.
func (m *machine) enable(g *Group, h *hierarchy, c Controllers) error {
	c &= h.ctl &^ core
	if !h.v2 || c&^g.parent.enabled == 0 {
		return nil
	}
	dir, above := h.mount, path.Dir(g.dir(h))
	if err := enableIn(h, dir, c); err != nil {
		return err
	}
	for part := range strings.SplitSeq(strings.TrimPrefix(strings.TrimPrefix(above, h.mount), "/"), "/") {
		if part == "" {
			break // above is the mount point
		}
		dir = path.Join(dir, part)
		if err := enableIn(h, dir, c); err != nil {
			return err
		}
	}
	g.parent.enabled |= c
	return nil
}

func enableIn(h *hierarchy, dir string, c Controllers) error {
	file := dir + "/cgroup.subtree_control"
	have, err := readFile(file)
	if err != nil {
		return err
	}
	missing := c &^ parseControllers(have, func(r rune) bool { return r == ' ' })
	if missing == 0 {
		return nil
	}
	err = writeFile(file, "+"+strings.ReplaceAll(missing.String(), ",", " +"))
	if errors.Is(err, unix.EBUSY) {
		return &UnsupportedError{What: missing.String() + " controller", Err: err,
			Remedy: "processes live in " + dir + " itself: move them to a cgroup below it (cgroup-v2.rst, \"No Internal Process Constraint\")"}
	}
	return denied(h, err)
}
