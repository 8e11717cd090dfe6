package cgroup

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Join opens what a child needs to enter g. The caller closes it when the child is in. Errors: os.ErrClosed; EBUSY
// when g has groups below it.
func (g *Group) Join() (*Join, error) {
	if err := g.hold("join"); err != nil {
		return nil, err
	}
	g.mu.Lock()
	j := g.files
	g.files = nil
	g.lent++
	g.mu.Unlock()
	var err error
	if j == nil {
		j, err = g.open()
	}
	if err == nil && g.leaf {
		j.back = g.takeBack
	}
	return j, err
}

// takeBack is the Close of a leaf's Join. Its files are kept for a few milliseconds: the leaf may be released by then,
// and they serve the next command.
func (g *Group) takeBack(j *Join) error {
	g.mu.Lock()
	g.lent--
	kept := g.files == nil && !g.closed
	if kept {
		g.files = j
	}
	g.mu.Unlock()
	if !kept {
		return j.Close()
	}
	g.tree.bg.later(g)
	return nil
}

// prepare opens ahead what Join will hand out, and what Usage and Events are likely to read.
func (g *Group) prepare() error {
	j, err := g.open()
	if err != nil {
		return err
	}
	g.openMeters()
	if !g.offer(j) {
		return errors.Join(errClosed("join", g.rel), j.Close())
	}
	return nil
}

// offer has Join hand j out; it is false when g is closed.
func (g *Group) offer(j *Join) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.files = j
	return true
}

// dropJoin closes the files that no Join has.
func (g *Group) dropJoin() {
	g.mu.Lock()
	j := g.files
	g.files = nil
	g.mu.Unlock()
	if j != nil {
		_ = j.Close()
	}
}

// hold notes that processes are let in.
func (g *Group) hold(op string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return errClosed(op, g.rel)
	case len(g.children) > 0:
		return pathError(op, g.rel, unix.EBUSY)
	}
	g.held = true
	return nil
}

func (g *Group) open() (*Join, error) {
	j := &Join{Tasks: make([]*os.File, 0, len(g.tree.m.hier))}
	for _, p := range g.targets() {
		name, flags := p.dir+"/tasks", unix.O_WRONLY
		if p.h.v2 {
			name, flags = p.dir, unix.O_RDONLY|unix.O_DIRECTORY
		}
		fd, err := p.h.openFile(name, flags)
		if err != nil {
			_ = j.Close()
			return nil, denied(p.h, err)
		}
		if f := os.NewFile(uintptr(fd), name); p.h.v2 {
			j.Dir = f
		} else {
			j.Tasks = append(j.Tasks, f)
		}
	}
	return j, nil
}

// targets are the directories in which a process of g has to be: in each hierarchy g's own or, where a group above
// has a limit and g hasn't, that one's.
func (g *Group) targets() []place {
	var ps []place
	for _, h := range g.tree.m.hier {
		for x := g; x != nil; x = x.parent {
			if x.own&h.ctl != 0 {
				ps = append(ps, place{x.dir(h), h})
				break
			}
		}
	}
	return ps
}

// Add moves a process with all its threads into g; what it forks from then on is born in it. What it has used before
// stays charged where it was. It takes some 10 ms per v1 controller on an idle machine; see Join. After an error it may
// be in g in a part of the hierarchies. Errors: fs.ErrInvalid for a pid that isn't positive or is the caller's own
// (Kill would end the caller), ESRCH when there is no such process, and those of Join.
func (g *Group) Add(pid int) error {
	if pid <= 0 {
		return &FieldError{"pid", pid, "not a process"}
	}
	if pid == os.Getpid() {
		return &FieldError{"pid", pid, "the calling process"}
	}
	g.meddle()
	if err := g.hold("add"); err != nil {
		return err
	}
	for _, p := range g.targets() {
		if err := writeFile(p.dir+"/cgroup.procs", strconv.Itoa(pid)); err != nil {
			return denied(p.h, err)
		}
	}
	return nil
}
