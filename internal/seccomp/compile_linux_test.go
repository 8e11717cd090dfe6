package seccomp

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// caps are Docker's.
var caps = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// A call is struct seccomp_data but for the instruction pointer.
type call struct {
	arch, number uint32
	args         [6]uint64
}

// interpret runs a filter as the kernel does (BPF_PROG_RUN of what seccomp_check_filter lets in), and fails on what it would refuse.
func interpret(t testing.TB, code []unix.SockFilter, c call) action {
	t.Helper()
	var acc uint32
	for pc := 0; ; pc++ {
		if pc >= len(code) {
			t.Fatalf("the filter leaves its end")
		}
		i := code[pc]
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			switch {
			case i.K == offNumber:
				acc = c.number
			case i.K == offArch:
				acc = c.arch
			case i.K >= offArgs && i.K < offArgs+48 && i.K%4 == 0:
				acc = uint32(c.args[(i.K-offArgs)/8] >> (8 * (i.K % 8)))
			default:
				t.Fatalf("load at %d", i.K)
			}
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= i.K
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(i.K)
		case unix.BPF_RET | unix.BPF_K:
			return action(i.K)
		default:
			yes, known := map[uint16]bool{
				unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:  acc == i.K,
				unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:  acc >= i.K,
				unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:  acc > i.K,
				unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K: acc&i.K != 0,
			}[i.Code]
			if !known {
				t.Fatalf("instruction %#x", i.Code)
			}
			if yes {
				pc += int(i.Jt)
			} else {
				pc += int(i.Jf)
			}
		}
	}
}

// holds says whether c is true of these arguments of so many bits.
func (c condition) holds(args [6]uint64, bits int) bool {
	arg, value, datum := args[c.index], c.value, c.datum
	if bits == 32 {
		arg, value, datum = uint64(uint32(arg)), uint64(uint32(value)), uint64(uint32(datum))
	}
	switch c.op {
	case specs.OpEqualTo:
		return arg == value
	case specs.OpNotEqual:
		return arg != value
	case specs.OpLessThan:
		return arg < value
	case specs.OpLessEqual:
		return arg <= value
	case specs.OpGreaterThan:
		return arg > value
	case specs.OpGreaterEqual:
		return arg >= value
	default: // SCMP_CMP_MASKED_EQ: fromOCI lets nothing else in
		return arg&value == datum
	}
}

// decided is what a profile says of a call by its name, without a filter.
func decided(p *Profile, goarch string, c call) action {
	for i, a := range machines()[goarch] {
		if a.audit != c.arch || i > 0 && !slices.Contains(p.archs, a.name) {
			continue
		}
		if a.from == 0 && c.number >= x32Bit && c.arch == unix.AUDIT_ARCH_X86_64 {
			continue // x32's
		}
		if c.number < a.from {
			continue
		}
		name := ""
		for n, nr := range a.numbers {
			if nr == c.number {
				name = n
			}
		}
		if name == "" && p.other.kind() == unix.SECCOMP_RET_ERRNO {
			return errno(unix.ENOSYS)
		}
		for _, r := range p.rules[name] {
			if !slices.ContainsFunc(r.conditions, func(c2 condition) bool { return !c2.holds(c.args, a.bits) }) {
				return r.action
			}
		}
		return p.other
	}
	if c.arch == unix.AUDIT_ARCH_X86_64 && goarch == "amd64" && c.number == skipped {
		return decided(p, goarch, call{arch: c.arch, number: x32Bit - 1})
	}
	return killProcess
}

// interesting are values about those that the rules for a call compare with.
func interesting(rules []rule) []uint64 {
	values := []uint64{0, 1, 1 << 31, 1 << 32, ^uint64(0)}
	for _, r := range rules {
		for _, c := range r.conditions {
			for _, v := range []uint64{c.value, c.datum} {
				values = append(values, v, v-1, v+1, v|1<<32, v|1<<63, v&0xffff_ffff, v>>32, ^v)
			}
		}
	}
	slices.Sort(values)
	return slices.Compact(values)
}

// everyCall calls f with every number of every arch and the argument values that matter for it.
func everyCall(p *Profile, goarch string, f func(call)) {
	for _, a := range machines()[goarch] {
		numbers := map[uint32]string{a.from + 100000: "", ^uint32(0): "", x32Bit - 1: "", x32Bit: "", x32Bit | 511: "", 1 << 31: ""}
		for nr := range uint32(700) {
			numbers[a.from+nr] = ""
		}
		for name, nr := range a.numbers {
			numbers[nr] = name
		}
		for nr, name := range numbers {
			c := call{arch: a.audit, number: nr}
			f(c)
			for _, index := range indices(p.rules[name]) {
				for _, v := range interesting(p.rules[name]) {
					c.args = [6]uint64{}
					c.args[index] = v
					f(c)
				}
			}
		}
	}
	for _, audit := range []uint32{0, unix.AUDIT_ARCH_S390X, unix.AUDIT_ARCH_AARCH64, unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, ^uint32(0)} {
		f(call{arch: audit, number: 39})
	}
}

func indices(rules []rule) []uint {
	var list []uint
	for _, r := range rules {
		for _, c := range r.conditions {
			list = append(list, c.index)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// own are the profiles of this package, by name.
func own(t testing.TB) map[string]*Profile {
	t.Helper()
	all := map[string]*Profile{}
	for _, f := range []func([]string) (*Profile, error){Default, Strict, Docker} {
		for _, c := range [][]string{caps, nil} {
			p, err := f(c)
			require.NoError(t, err)
			require.NoError(t, p.startable())
			all[fmt.Sprintf("%s with %d capabilities", p.Name, len(c))] = p
		}
	}
	return all
}

// TestEveryCall: the filters do what the profiles say, for every number of every machine and the arguments that matter.
func TestEveryCall(t *testing.T) {
	for name, p := range own(t) {
		for goarch := range machines() {
			t.Run(name+" on "+goarch, func(t *testing.T) { sameAsProfile(t, p, goarch) })
		}
	}
}

func sameAsProfile(t *testing.T, p *Profile, goarch string) {
	t.Helper()
	f, err := p.Compile(goarch)
	require.NoError(t, err)
	valid(t, f.Code)
	calls := 0
	everyCall(p, goarch, func(c call) {
		calls++
		if got, want := interpret(t, f.Code, c), decided(p, goarch, c); got != want {
			t.Fatalf("call %d of arch %#x with %#x: filter %#x, profile %#x", c.number, c.arch, c.args, got, want)
		}
	})
	t.Logf("%d instructions, %d calls", len(f.Code), calls)
}

// valid fails on what the kernel would not take (bpf_check_classic in net/core/filter.c).
func valid(t testing.TB, code []unix.SockFilter) {
	t.Helper()
	for at, i := range code {
		far := 0
		switch {
		case i.Code == unix.BPF_JMP|unix.BPF_JA:
			far = int(i.K)
		case i.Code&7 == unix.BPF_JMP:
			far = int(max(i.Jt, i.Jf))
		case i.Code&7 == unix.BPF_RET:
			continue
		}
		if at+1+far >= len(code) {
			t.Fatalf("instruction %d of %d leads over the end", at, len(code))
		}
	}
}

// TestRandomProfiles: the same for profiles of all actions and operators.
func TestRandomProfiles(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		raw := randomProfile(rng, 30)
		text, err := json.Marshal(raw)
		require.NoError(t, err)
		p, err := fromOCI(raw)
		if err != nil {
			require.Contains(t, err.Error(), "two actions", "%s", text)
			continue
		}
		goarch := []string{"amd64", "arm64"}[seed%2]
		sameAsProfile(t, p, goarch)
	}
}

// someNames are calls that all machines have.
var someNames = []string{
	"read", "write", "close", "ioctl", "socket", "clone", "personality", "prctl", "fcntl", "kill", "getpid", "mmap", "ppoll",
	"execve", "exit_group", "openat", "unshare", "ptrace", "fchmodat2", "futex_waitv", "setns",
}

// randomProfile is valid but for contradictions.
func randomProfile(rng *rand.Rand, entries int) *specs.LinuxSeccomp {
	all := slices.Sorted(maps.Keys(actions))
	raw := &specs.LinuxSeccomp{DefaultAction: all[rng.IntN(len(all))]}
	for _, a := range []specs.Arch{specs.ArchX86, specs.ArchX32, specs.ArchARM} {
		if rng.IntN(2) == 0 {
			raw.Architectures = append(raw.Architectures, a)
		}
	}
	ops := []specs.LinuxSeccompOperator{
		specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpMaskedEqual,
	}
	for range entries {
		s := specs.LinuxSyscall{Names: []string{someNames[rng.IntN(len(someNames))]}, Action: all[rng.IntN(len(all))]}
		for range rng.IntN(3) {
			a := specs.LinuxSeccompArg{Index: uint(rng.IntN(3)), Op: ops[rng.IntN(len(ops))], Value: randomValue(rng)}
			if a.Op == specs.OpMaskedEqual {
				a.ValueTwo = a.Value & randomValue(rng)
			}
			s.Args = append(s.Args, a)
		}
		raw.Syscalls = append(raw.Syscalls, s)
	}
	return raw
}

func randomValue(rng *rand.Rand) uint64 {
	switch rng.IntN(4) {
	case 0:
		return uint64(rng.IntN(4))
	case 1:
		return 1 << rng.IntN(64)
	case 2:
		return uint64(rng.Uint32())
	}
	return rng.Uint64()
}

// TestTooLarge: more than the kernel takes is an error.
func TestTooLarge(t *testing.T) {
	p := &Profile{other: errno(unix.EPERM), rules: map[string][]rule{}}
	for i := range uint64(1200) {
		p.rules["ioctl"] = append(p.rules["ioctl"], rule{[]condition{{op: specs.OpEqualTo, value: i << 32}}, errno(unix.Errno(i + 1))})
	}
	_, err := p.Compile("amd64")
	require.ErrorContains(t, err, "the kernel takes 4096")
	_, err = p.Compile("riscv64")
	require.ErrorContains(t, err, "riscv64")
}

// TestFarJumps: a filter with more between a jump and its aim than a jump can be far.
func TestFarJumps(t *testing.T) {
	p := &Profile{other: errno(unix.EPERM), rules: map[string][]rule{}}
	for _, name := range someNames {
		for i := range uint64(40) {
			p.rules[name] = append(p.rules[name], rule{[]condition{{index: uint(i % 6), op: specs.OpGreaterThan, value: i<<33 | i}}, errno(unix.Errno(i + 1))})
		}
	}
	sameAsProfile(t, p, "amd64")
	sameAsProfile(t, p, "arm64")
}
