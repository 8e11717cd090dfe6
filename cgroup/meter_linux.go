package cgroup

import (
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// meterBudget is how many descriptors the meters of a tree hold at most: they save time, and never take the last ones.
const meterBudget = 1024

// A meter is a file that Usage or Events reads.
type meter struct {
	h    *hierarchy
	file string
}

// meters are the open ones of a group: to open one costs ten times the read. For a prepared leaf they are opened in
// the background, those that were read of the leaves before it; a group whose leaves are in use keeps what was read.
type meters struct {
	mu   sync.Mutex // held while the files are read, so that nobody closes them meanwhile
	open []openMeter
}

type openMeter struct {
	meter
	fd int
}

// meter reads a file of g; g.meters.mu is held.
func (g *Group) meter(h *hierarchy, file string) (string, error) {
	path := g.dir(h) + "/" + file
	for _, m := range g.meters.open {
		if m.h == h && m.file == file {
			s, err := readSmall(m.fd)
			return s, pathError("read", path, err)
		}
	}
	fd, err := h.openFile(path, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	s, err := readSmall(fd)
	if g.leaf {
		g.parent.pool.wasRead(meter{h, file})
	}
	if g.leaf || !g.pool.active() || !g.keep(meter{h, file}, fd) {
		_ = unix.Close(fd)
	}
	return s, pathError("read", path, err)
}

// keep holds fd if the budget allows for it.
func (g *Group) keep(m meter, fd int) bool {
	if g.tree.meters.Add(1) > meterBudget {
		g.tree.meters.Add(-1)
		return false
	}
	g.meters.open = append(g.meters.open, openMeter{m, fd})
	return true
}

// openMeters opens what it can of what leaves are likely to be asked for; Usage and Events open the others.
func (g *Group) openMeters() {
	g.meters.mu.Lock()
	defer g.meters.mu.Unlock()
	for _, m := range g.parent.pool.wereRead() {
		if m.h.ctl&g.own == 0 {
			continue
		}
		fd, err := m.h.openFile(g.dir(m.h)+"/"+m.file, unix.O_RDONLY)
		if err != nil {
			continue
		}
		if !g.keep(m, fd) {
			_ = unix.Close(fd)
			return
		}
	}
}

func (g *Group) closeMeters() {
	g.meters.mu.Lock()
	defer g.meters.mu.Unlock()
	for _, m := range g.meters.open {
		_ = unix.Close(m.fd)
		g.tree.meters.Add(-1)
	}
	g.meters.open = nil
}

// wasRead notes what leaves are asked for.
func (p *pool) wasRead(m meter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.reads, m) {
		p.reads = append(p.reads, m)
	}
}

func (p *pool) wereRead() []meter {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.reads)
}
