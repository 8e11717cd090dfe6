package seccomp

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A Filter is a profile for one machine, ready for seccomp(2).
type Filter struct {
	// Profile is the name of what it was made of.
	Profile string
	// Flags are those of SECCOMP_SET_MODE_FILTER.
	Flags uint
	// Code is the program, at most 4096 instructions (BPF_MAXINSNS).
	Code []unix.SockFilter
	text string
}

// String is the profile's name and the hash of the program: "default sha256:…".
func (f *Filter) String() string { return f.text }

// maxCode is BPF_MAXINSNS.
const maxCode = 4096

// Compile makes the filter of p for a machine, amd64 or arm64.
func (p *Profile) Compile(goarch string) (*Filter, error) {
	archs, ok := machines()[goarch]
	if !ok {
		return nil, fmt.Errorf("no filters are made for %s: only for amd64 and arm64", goarch)
	}
	var a assembler
	other := a.returns(killProcess)
	// Backwards: what a jump leads to is there before it.
	start := other
	for _, arch := range slices.Backward(archs) {
		if arch.from != 0 {
			continue // part of the one with the same audit number
		}
		if arch.name != archs[0].name && !slices.Contains(p.archs, arch.name) {
			continue
		}
		tree := a.tree(p.segments(arch, archs))
		start = a.jump(unix.BPF_JEQ, arch.audit, a.load(offNumber, tree), start)
	}
	a.load(offArch, start)
	if len(a.code) > maxCode {
		return nil, fmt.Errorf("its filter has %d instructions and the kernel takes %d: use fewer rules with arguments", len(a.code), maxCode)
	}
	slices.Reverse(a.code)
	bytes, err := binary.Append(nil, binary.LittleEndian, a.code)
	if err != nil {
		return nil, err
	}
	return &Filter{p.Name, p.flags, a.code, fmt.Sprintf("%s sha256:%x", p.Name, sha256.Sum256(bytes))}, nil
}

// A segment is a run of numbers, up to the next one's first, of calls that are
// treated alike.
type segment struct {
	first uint32
	rules []rule
	last  action // where none of rules holds
	bits  int
}

// segments are those of all numbers that programs use as arch has it.
func (p *Profile) segments(a arch, archs []arch) []segment {
	list := p.numbered(a)
	for _, sub := range archs {
		if sub.audit != a.audit || sub.from == 0 {
			continue
		}
		if slices.Contains(p.archs, sub.name) {
			list = append(list, p.numbered(sub)...)
		} else {
			_, unknown := p.decide("")
			list = append(list, segment{first: sub.from, last: killProcess}, segment{first: skipped, last: unknown})
		}
	}
	return slices.CompactFunc(list, func(a, b segment) bool { return a.key() == b.key() })
}

// skipped is the number of a call that a debugger made none (PTRACE_SET_SYSCALL_INFO, ptrace(2)).
const skipped = 0xffff_ffff

// numbered has the segments of the calls of an arch, those between and one for what is behind them.
func (p *Profile) numbered(a arch) []segment {
	byNumber := map[uint32]string{}
	for name, nr := range a.numbers {
		byNumber[nr] = max(byNumber[nr], name)
	}
	_, unknown := p.decide("")
	list := []segment{{first: a.from, last: unknown}}
	for _, nr := range slices.Sorted(maps.Keys(byNumber)) {
		if list[len(list)-1].first == nr {
			list = list[:len(list)-1]
		}
		rules, last := p.decide(byNumber[nr])
		list = append(list, segment{nr, rules, last, a.bits}, segment{first: nr + 1, last: unknown})
	}
	return list
}

// key is equal for segments whose calls are treated alike.
func (s segment) key() string {
	if len(s.rules) == 0 {
		return strconv.FormatUint(uint64(s.last), 16)
	}
	if r := s.rules[0]; len(r.conditions) == 0 {
		return strconv.FormatUint(uint64(r.action), 16)
	}
	return fmt.Sprint(s.rules, s.last, s.bits)
}

// An assembler writes a program from its end to its start: a jump of BPF only
// leads forward.
type assembler struct {
	code []unix.SockFilter
	// known are the instructions that there are, by what they do: what is done twice
	// is written once.
	known map[instruction]place
}

// A place is that of an instruction, counted from the end.
type place int

// An instruction is one with its jumps as places.
type instruction struct {
	code    uint16
	k       uint32
	yes, no place
}

// Where struct seccomp_data has what is compared.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

// add writes an instruction unless it is there.
func (a *assembler) add(i instruction, jt, jf uint8) place {
	a.code = append(a.code, unix.SockFilter{Code: i.code, K: i.k, Jt: jt, Jf: jf})
	if a.known == nil {
		a.known = map[instruction]place{}
	}
	a.known[i] = place(len(a.code) - 1)
	return a.known[i]
}

// maxJump is how far a jump with a condition leads.
const maxJump = 255

// distance is how many instructions are between the next to be written and p.
func (a *assembler) distance(p place) int { return len(a.code) - int(p) - 1 }

// near is a place with p's instruction that the next to be written but n can jump to.
func (a *assembler) near(p place, n int) place {
	if a.distance(p)+n <= maxJump {
		return p
	}
	return a.add(instruction{unix.BPF_JMP | unix.BPF_JA, uint32(a.distance(p)), -1, -1}, 0, 0)
}

func (a *assembler) returns(act action) place {
	i := instruction{unix.BPF_RET | unix.BPF_K, uint32(act), -1, -1}
	if p, ok := a.known[i]; ok {
		return p
	}
	return a.add(i, 0, 0)
}

// jump goes on at yes where comparing the accumulator with k by op is true, else at no.
func (a *assembler) jump(op uint16, k uint32, yes, no place) place {
	if yes == no {
		return yes
	}
	i := instruction{unix.BPF_JMP | op | unix.BPF_K, k, yes, no}
	if p, ok := a.known[i]; ok {
		return p
	}
	yesNear := a.near(yes, 1)
	noNear := a.near(no, 0)
	return a.add(i, uint8(a.distance(yesNear)), uint8(a.distance(noNear)))
}

// load goes on at next with the 32 bits at an offset of struct seccomp_data in the accumulator.
func (a *assembler) load(offset uint32, next place) place {
	return a.then(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offset, next)
}

// then does what has no jump and goes on at next.
func (a *assembler) then(code uint16, k uint32, next place) place {
	i := instruction{code, k, next, next}
	if p, ok := a.known[i]; ok {
		return p
	}
	if d := a.distance(next); d > 0 {
		a.add(instruction{unix.BPF_JMP | unix.BPF_JA, uint32(d), -1, -1}, 0, 0)
	}
	return a.add(i, 0, 0)
}

// tree finds the segment of the number in the accumulator.
func (a *assembler) tree(list []segment) place {
	if len(list) == 1 {
		return a.segment(list[0])
	}
	half := len(list) / 2
	high := a.tree(list[half:])
	return a.jump(unix.BPF_JGE, list[half].first, high, a.tree(list[:half]))
}

func (a *assembler) segment(s segment) place {
	next := a.returns(s.last)
	for _, r := range slices.Backward(s.rules) {
		yes := a.returns(r.action)
		for _, c := range slices.Backward(r.conditions) {
			yes = a.condition(c, s.bits, yes, next)
		}
		next = yes
	}
	return next
}

// condition goes on at yes where c holds, else at no.
func (a *assembler) condition(c condition, bits int, yes, no place) place {
	switch c.op {
	case specs.OpEqualTo:
		return a.compare(c, bits, unix.BPF_JEQ, yes, no)
	case specs.OpNotEqual:
		return a.compare(c, bits, unix.BPF_JEQ, no, yes)
	case specs.OpGreaterThan:
		return a.compare(c, bits, unix.BPF_JGT, yes, no)
	case specs.OpLessEqual:
		return a.compare(c, bits, unix.BPF_JGT, no, yes)
	case specs.OpGreaterEqual:
		return a.compare(c, bits, unix.BPF_JGE, yes, no)
	case specs.OpLessThan:
		return a.compare(c, bits, unix.BPF_JGE, no, yes)
	default:
		return a.masked(c, bits, yes, no)
	}
}

// compare goes on at yes where op, JEQ, JGT or JGE, is true of the whole argument: the upper halves decide where they differ.
func (a *assembler) compare(c condition, bits int, op uint16, yes, no place) place {
	lo, hi := halves(c.index)
	equal := a.load(lo, a.jump(op, uint32(c.value), yes, no))
	if bits == 32 {
		return equal
	}
	upper := uint32(c.value >> 32)
	differ := no
	if op != unix.BPF_JEQ {
		differ = a.jump(unix.BPF_JGT, upper, yes, no)
	}
	return a.load(hi, a.jump(unix.BPF_JEQ, upper, equal, differ))
}

// masked compares what a mask leaves of each half.
func (a *assembler) masked(c condition, bits int, yes, no place) place {
	lo, hi := halves(c.index)
	p := a.half(lo, uint32(c.value), uint32(c.datum), yes, no)
	if bits == 32 {
		return p
	}
	return a.half(hi, uint32(c.value>>32), uint32(c.datum>>32), p, no)
}

func (a *assembler) half(offset, mask, datum uint32, yes, no place) place {
	if mask == 0 {
		return yes // Load sees to it that datum is 0, too
	}
	return a.load(offset, a.then(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, mask, a.jump(unix.BPF_JEQ, datum, yes, no)))
}

// halves are the offsets of an argument's: both machines are little-endian.
func halves(index uint) (lo, hi uint32) {
	return offArgs + 8*uint32(index), offArgs + 8*uint32(index) + 4
}
