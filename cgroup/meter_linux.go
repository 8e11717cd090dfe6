package cgroup

import (
	"errors"
	"io/fs"
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
	fd, err := openMeterFile(h, path, file)
	if err != nil {
		return "", err
	}
	s, err := readSmall(fd)
	if g.leaf {
		g.parent.pool.wasRead(meter{h, file})
	}
	pool := &g.pool
	if g.leaf {
		pool = &g.parent.pool
	}
	if !pool.active() || !g.keep(meter{h, file}, fd) {
		_ = unix.Close(fd)
	}
	return s, pathError("read", path, err)
}

// openMeterFile opens for writing, too, what a leaf's reset writes to.
func openMeterFile(h *hierarchy, path, file string) (int, error) {
	flags := unix.O_RDONLY
	if !h.v2 && isReset(file) {
		flags = unix.O_RDWR
	}
	fd, err := h.openFile(path, flags)
	if flags == unix.O_RDWR && errors.Is(err, fs.ErrPermission) {
		return h.openFile(path, unix.O_RDONLY)
	}
	return fd, err
}

// writeMeter writes to a file of g; g.meters.mu is held.
func (g *Group) writeMeter(h *hierarchy, file, value string) error {
	for _, m := range g.meters.open {
		if m.h == h && m.file == file {
			_, err := unix.Pwrite(m.fd, []byte(value), 0)
			return err
		}
	}
	return h.write(g.dir(h)+"/"+file, value)
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
		fd, err := openMeterFile(m.h, g.dir(m.h)+"/"+m.file, m.file)
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
