package cgroup

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Pressure reads how long g's processes had to wait for processors, memory and disks. It is v2's: on a hybrid machine
// those that joined a group with the Unified controller are measured. Errors: os.ErrClosed after Remove, Release or Close;
// errors.ErrUnsupported. The kernel counts in jiffies and forgets what is less: ask no more often than every 100 ms.
func (g *Group) Pressure() (Pressure, error) {
	g.meters.mu.Lock()
	defer g.meters.mu.Unlock()
	if err := g.alive("pressure"); err != nil {
		return Pressure{}, err
	}
	if err := g.has(Unified); err != nil {
		return Pressure{}, err
	}
	h, r := g.in(Unified), figures{g: g}
	p := Pressure{parsePressure(r.text(h, "cpu.pressure")), parsePressure(r.text(h, "memory.pressure")), parsePressure(r.text(h, "io.pressure"))}
	if p == (Pressure{}) && (r.err == nil || errors.Is(r.err, unix.EOPNOTSUPP)) {
		return p, &UnsupportedError{What: "pressure", Err: r.err, Remedy: "a kernel with CONFIG_PSI, booted with psi=1"}
	}
	return p, r.err
}
