package cgroup

import "strconv"

// shrink makes room for a smaller memory limit on v2, where the limit itself would kill until it holds: as v1 does, it
// reclaims what can be reclaimed and refuses if that isn't enough. memory.high reclaims and never kills; until restore
// writes it again it slows down who would use more meanwhile. (memory.reclaim needs Linux 5.19.)
func (g *Group) shrink(from, to Limits) (restore func(Limits) error, err error) {
	restore = func(Limits) error { return nil }
	h := g.in(Memory)
	if h == nil || !h.v2 || to.Memory == 0 || from.Memory > 0 && from.Memory <= to.Memory {
		return restore, nil
	}
	high, current := g.dir(h)+"/memory.high", g.dir(h)+"/memory.current"
	use, err := readNumber(h, current)
	if err != nil || use <= to.Memory {
		return restore, err
	}
	restore = func(l Limits) error { return ignoreGone(h.write(high, orMax(l.MemoryHigh))) }
	// A signal, such as those of Go's scheduler, ends the kernel's work early.
	for tries := 0; use > to.Memory && tries < 3; {
		before := use
		if err = h.write(high, strconv.FormatInt(to.Memory, 10)); err != nil {
			return restore, denied(h, err)
		}
		if use, err = readNumber(h, current); err != nil {
			return restore, err
		}
		if use >= before {
			tries++
		}
	}
	if use > to.Memory {
		err = &InUseError{Field: "Memory", Value: to.Memory, Use: use}
	}
	return restore, err
}

// inUse tells what keeps v1 from lowering a limit of memory.
func (g *Group) inUse(h *hierarchy, s setting, err error) error {
	e := &InUseError{Field: "Memory"}
	file := "memory.usage_in_bytes"
	switch s.file {
	case "memory.limit_in_bytes":
	case memswLimit:
		e.Field, file = "Swap", "memory.memsw.usage_in_bytes"
	default:
		return err
	}
	e.Value, _ = strconv.ParseInt(s.value, 10, 64)
	use, rerr := readNumber(h, g.dir(h)+"/"+file)
	if rerr != nil {
		return err
	}
	e.Use = use
	return e
}

func readNumber(h *hierarchy, path string) (int64, error) {
	s, err := h.read(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, pathError("read", path, err)
}
