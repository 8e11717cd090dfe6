package cgroup

import (
	"errors"
	"strconv"
)

// effective is l, with what the kernel would refuse as looser than the groups above made as tight as they are.
func (g *Group) effective(l Limits) (Limits, error) {
	for p := g.parent; p != nil; p = p.parent {
		above := p.Limits()
		if above.CPUs > 0 && l.CPUs > above.CPUs {
			l.CPUs = above.CPUs
		}
	}
	if g.own&CPUSet == 0 {
		return l, nil
	}
	var err error
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
