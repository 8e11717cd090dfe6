package cgroup

import (
	"errors"
	"strconv"
	"strings"
)

// maxCPU is above any processor number that Linux can be built for (NR_CPUS ≤ 8192).
const maxCPU = 8191

// cpuSet has a bit for each processor.
type cpuSet []uint64

// parseCPUSet reads the kernel's list format, cpuset(7): "0-2,7", blanks around a part allowed.
func parseCPUSet(s string) (cpuSet, error) {
	var set cpuSet
	if strings.TrimSpace(s) == "" {
		return set, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		from, err := parseCPU(first)
		to := from
		if err == nil && isRange {
			to, err = parseCPU(last)
		}
		if err != nil {
			return nil, err
		}
		if to < from {
			return nil, errors.New("range ends before it starts")
		}
		for c := from; c <= to; c++ {
			set = set.with(c)
		}
	}
	return set, nil
}

func parseCPU(s string) (int, error) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, errors.New("not a list of processors such as 0-2,7")
	}
	n, err := strconv.Atoi(s)
	if err != nil || n > maxCPU {
		return 0, errors.New("not a list of processors from 0 to " + strconv.Itoa(maxCPU))
	}
	return n, nil
}

func (s cpuSet) with(c int) cpuSet {
	for len(s) <= c/64 {
		s = append(s, 0)
	}
	s[c/64] |= 1 << (c % 64)
	return s
}

func (s cpuSet) has(c int) bool { return c/64 < len(s) && s[c/64]&(1<<(c%64)) != 0 }

func (s cpuSet) empty() bool {
	for _, w := range s {
		if w != 0 {
			return false
		}
	}
	return true
}

// and returns what is in both.
func (s cpuSet) and(o cpuSet) cpuSet {
	n := min(len(s), len(o))
	r := make(cpuSet, n)
	for i := range n {
		r[i] = s[i] & o[i]
	}
	return r
}

// or returns what is in either.
func (s cpuSet) or(o cpuSet) cpuSet {
	if len(s) < len(o) {
		s, o = o, s
	}
	r := append(cpuSet(nil), s...)
	for i := range o {
		r[i] |= o[i]
	}
	return r
}

// without returns what is in s and not in o.
func (s cpuSet) without(o cpuSet) cpuSet {
	r := append(cpuSet(nil), s...)
	for i := range min(len(r), len(o)) {
		r[i] &^= o[i]
	}
	return r
}

// String is the kernel's list format with the longest ranges.
func (s cpuSet) String() string {
	var parts []string
	for c := 0; c < len(s)*64; c++ {
		if !s.has(c) {
			continue
		}
		from := c
		for s.has(c + 1) {
			c++
		}
		p := strconv.Itoa(from)
		if c > from {
			p += "-" + strconv.Itoa(c)
		}
		parts = append(parts, p)
	}
	return strings.Join(parts, ",")
}
