package cgroup

import (
	"errors"
	"strconv"
)

// effective is l, with what the kernel would refuse as looser than the groups above made as tight as they are.
func (g *Group) effective(l Limits) (Limits, error) {
	for p := g.parent; p != nil; p = p.parent {
		above := p.Limits()
		if above.CPUs > 0 && l.CPUs > 0 {
			l.CPUs = min(l.CPUs, above.granted())
		}
		if h := g.in(Devices); h != nil && !h.v2 { // On v2 each group has its say.
			l.Devices = tighterDevices(l.Devices, above.Devices)
		}
	}
	if l.quota() < minQuota {
		l.CPUs = 0 // Less than the period can say: the limit above holds.
	}
	var err error
	if l.IO, err = resolveIO(l.IO); err != nil || g.own&CPUSet == 0 {
		return l, err
	}
	l.CPUSet, err = g.cpus(l.CPUSet)
	return l, err
}

// cpus resolves want: to what the machine and the groups above allow, on v1 even when nothing is asked for, since there
// an empty set holds no process.
func (g *Group) cpus(want string) (string, error) {
	h := g.in(CPUSet)
	file := h.mount + "/cpuset.cpus"
	if h.v2 {
		file += ".effective"
	}
	root, err := readFile(file)
	if err != nil {
		return "", err
	}
	have, err := parseCPUSet(root)
	if err != nil {
		return "", pathError("read", file, errors.New(strconv.Quote(root)+": "+err.Error()))
	}
	set, err := parseCPUSet(want)
	if err != nil {
		return "", &FieldError{"CPUSet", want, err.Error()}
	}
	if missing := set.without(have); !missing.empty() {
		return "", &FieldError{"CPUSet", want, "processor " + missing.String() + " is not there, only " + root}
	}
	for p := g.parent; p != nil; p = p.parent {
		above, _ := parseCPUSet(p.Limits().CPUSet)
		if !above.empty() {
			have = have.and(above)
		}
	}
	switch {
	case want == "" && h.v2:
		return "", nil
	case want == "":
		return have.String(), nil
	case set.and(have).empty():
		return "", &FieldError{"CPUSet", want, "nothing of it is allowed above, only " + have.String()}
	}
	return set.and(have).String(), nil
}
