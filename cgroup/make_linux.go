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

// made is a directory of a group, or of the tree's parent when the group is nil.
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
	if g.isMade(h) {
		return nil
	}
	if g.parent == nil {
		return k.top(g, h)
	}
	if err := k.ensure(g.parent, h); err != nil {
		return err
	}
	dir := g.dir(h)
	if err := mkdir(dir); err != nil {
		return denied(h, err)
	}
	g.setMade(h, true)
	k.steps = append(k.steps, made{g, h, dir})
	return initCPUSet(h, dir)
}

// top makes the tree's own directory and the parent's, which another owner who closes may just be removing.
func (k *making) top(g *Group, h *hierarchy) error {
	dir := g.dir(h)
	for range 100 {
		if err := k.parents(h); err != nil {
			return denied(h, err)
		}
		err := mkdir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return denied(h, err)
		}
		g.setMade(h, true)
		k.steps = append(k.steps, made{g, h, dir})
		if err := useHierarchy(h, dir); err != nil {
			return err
		}
		return initCPUSet(h, dir)
	}
	return pathError("mkdir", dir, unix.EBUSY)
}

// parents makes the directories of Options.Parent that are not there.
func (k *making) parents(h *hierarchy) error {
	rel := strings.TrimPrefix(h.parent, h.mount+"/")
	dir := h.mount
	for part := range strings.SplitSeq(rel, "/") {
		dir = path.Join(dir, part)
		err := mkdir(dir)
		switch {
		case errors.Is(err, fs.ErrExist):
			// The default parent is nobody's: the last of its owners removes it.
			if k.t.opts.Parent == "" && dir == h.parent && !slices.Contains(k.t.parents, dir) {
				k.t.parents = append(k.t.parents, dir)
			}
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
		v, err := readFile(path.Dir(dir) + f)
		if err == nil {
			err = writeFile(dir+f, v)
		}
		if err != nil {
			return denied(h, err)
		}
	}
	return nil
}

// useHierarchy makes limits count for the groups below, too; always so since Linux 5.11.
func useHierarchy(h *hierarchy, dir string) error {
	if h.v2 || h.ctl&Memory == 0 {
		return nil
	}
	v, err := readFile(dir + "/memory.use_hierarchy")
	if errors.Is(err, fs.ErrNotExist) || v == "1" {
		return nil
	}
	if err != nil {
		return err
	}
	return denied(h, writeFile(dir+"/memory.use_hierarchy", "1"))
}

// enable gives the directories from the parent of the tree down to that of g the v2 controllers that g needs.
func (m *machine) enable(g *Group, h *hierarchy, c Controllers) error {
	c &= h.ctl & (Memory | PIDs | CPU | CPUSet)
	if !h.v2 || c == 0 {
		return nil
	}
	dir := h.mount
	for part := range strings.SplitSeq(strings.TrimPrefix(path.Dir(g.dir(h)), h.mount+"/"), "/") {
		if err := enableIn(h, dir, c); err != nil {
			return err
		}
		dir = path.Join(dir, part)
	}
	return enableIn(h, dir, c)
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

func mkdir(dir string) error {
	return pathError("mkdir", dir, unix.Mkdir(dir, 0o755))
}

func rmdir(dir string) error {
	for {
		err := unix.Rmdir(dir)
		if err != unix.EINTR {
			return pathError("rmdir", dir, err)
		}
	}
}
