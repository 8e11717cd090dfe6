package cgroup

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// StandardDevices is a value for Limits.Devices: what each program expects to have, null, zero, full, random, urandom,
// tty and pseudo-terminals.
func StandardDevices() []string {
	return []string{"c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm"}
}

// device is an entry of Limits.Devices. A number is anyNumber for each.
type device struct {
	kind         byte // 'b' or 'c'
	major, minor int64
	access       access
}

const anyNumber = -1

// access is a set of what may be done, in the bits of BPF_DEVCG_ACC (linux/bpf.h).
type access uint8

const (
	mayMake access = 1 << iota
	mayRead
	mayWrite
	mayAll = mayMake | mayRead | mayWrite
)

func (a access) String() string {
	var s string
	for i, r := range "rwm" {
		if a&[...]access{mayRead, mayWrite, mayMake}[i] != 0 {
			s += string(r)
		}
	}
	return s
}

func (l Limits) validateDevices(f *fieldErrors) {
	for i, s := range l.Devices {
		if _, err := parseDevice(s); err != nil {
			f.add(fmt.Sprintf("Devices[%d]", i), s, err.Error())
		}
	}
}

// parseDevice reads "c 1:3 rwm", the format of devices.allow (Documentation/admin-guide/cgroup-v1/devices.rst).
func parseDevice(s string) (device, error) {
	f := strings.Fields(s)
	if len(f) != 3 || f[0] != "b" && f[0] != "c" {
		return device{}, errors.New(`not a device such as "c 1:3 rwm" or "b 8:* r"`)
	}
	major, minor, ok := strings.Cut(f[1], ":")
	d := device{kind: f[0][0]}
	var err1, err2 error
	d.major, err1 = parseDeviceNumber(major)
	d.minor, err2 = parseDeviceNumber(minor)
	if !ok || err1 != nil || err2 != nil {
		return device{}, errors.New("not MAJOR:MINOR with numbers or *")
	}
	for _, r := range f[2] {
		i := strings.IndexRune("mrw", r)
		if i < 0 {
			return device{}, errors.New("access is not of r, w and m")
		}
		d.access |= 1 << i
	}
	return d, nil
}

func parseDeviceNumber(s string) (int64, error) {
	if s == "*" {
		return anyNumber, nil
	}
	n, err := strconv.ParseUint(s, 10, 31)
	return int64(n), err
}

func (d device) String() string {
	number := func(n int64) string {
		if n == anyNumber {
			return "*"
		}
		return strconv.FormatInt(n, 10)
	}
	return fmt.Sprintf("%c %s:%s %v", d.kind, number(d.major), number(d.minor), d.access)
}

// deviceSet are entries, each pair of numbers once.
type deviceSet []device

// parseDevices reads valid entries.
func parseDevices(list []string) deviceSet {
	var set deviceSet
	for _, s := range list {
		if d, err := parseDevice(s); err == nil {
			set = set.with(d)
		}
	}
	return set
}

func (s deviceSet) index(d device) int {
	return slices.IndexFunc(s, func(e device) bool { return e.kind == d.kind && e.major == d.major && e.minor == d.minor })
}

func (s deviceSet) with(d device) deviceSet {
	if i := s.index(d); i >= 0 {
		s[i].access |= d.access
		return s
	}
	return append(s, d)
}

// without drops from each entry the access that o has under the same numbers: what is to be taken from the kernel's list
// when that was s and shall be o.
func (s deviceSet) without(o deviceSet) deviceSet {
	var r deviceSet
	for _, d := range s {
		if i := o.index(d); i >= 0 {
			d.access &^= o[i].access
		}
		if d.access != 0 {
			r = append(r, d)
		}
	}
	return r
}

// and is what both allow.
func (s deviceSet) and(o deviceSet) deviceSet {
	var r deviceSet
	for _, a := range s {
		for _, b := range o {
			major, ok1 := sameNumber(a.major, b.major)
			minor, ok2 := sameNumber(a.minor, b.minor)
			if acc := a.access & b.access; acc != 0 && a.kind == b.kind && ok1 && ok2 {
				r = r.with(device{a.kind, major, minor, acc})
			}
		}
	}
	return r
}

func sameNumber(a, b int64) (int64, bool) {
	return max(a, b), a == b || a == anyNumber || b == anyNumber
}

// list is the entries in a fixed order; empty, not nil, for none.
func (s deviceSet) list() []string {
	l := make([]string, 0, len(s))
	for _, d := range slices.SortedFunc(slices.Values(s), func(a, b device) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.major, b.major), cmp.Compare(a.minor, b.minor))
	}) {
		l = append(l, d.String())
	}
	return l
}

// tighterDevices is what both lists allow; nil is everything.
func tighterDevices(a, b []string) []string {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	return parseDevices(a).and(parseDevices(b)).list()
}

// looserDevices is what either list allows.
func looserDevices(a, b []string) []string {
	if a == nil || b == nil {
		return nil
	}
	return parseDevices(slices.Concat(a, b)).list()
}
