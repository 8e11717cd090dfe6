package seccomp

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

//go:embed testdata/export.c
var exportSource string

// Operators in enum scmp_compare (seccomp.h).
var libOperators = map[specs.LinuxSeccompOperator]int{
	specs.OpNotEqual: 1, specs.OpLessThan: 2, specs.OpLessEqual: 3, specs.OpEqualTo: 4, specs.OpGreaterEqual: 5,
	specs.OpGreaterThan: 6, specs.OpMaskedEqual: 7,
}

// libseccomp makes a filter of a profile's rules.
func libseccomp(t *testing.T, program string, p *Profile) []unix.SockFilter {
	t.Helper()
	archs := machines()["amd64"]
	tokens := map[specs.Arch]uint32{specs.ArchX86_64: unix.AUDIT_ARCH_X86_64, specs.ArchX86: unix.AUDIT_ARCH_I386, specs.ArchX32: unix.AUDIT_ARCH_X86_64 &^ 0x8000_0000}
	var in strings.Builder
	chosen := []uint32{archs[0].audit}
	for _, a := range archs[1:] {
		if slices.Contains(p.archs, a.name) {
			chosen = append(chosen, tokens[a.name])
		}
	}
	fmt.Fprintf(&in, "%d %d %s\n", libAction(p.other), len(chosen), strings.Trim(fmt.Sprint(chosen), "[]"))
	for name, rules := range p.rules {
		for _, r := range rules {
			fmt.Fprintf(&in, "%d %d %s", libAction(r.action), len(r.conditions), name)
			for _, c := range r.conditions {
				fmt.Fprintf(&in, " %d %d %d %d", c.index, libOperators[c.op], c.value, c.datum)
			}
			in.WriteByte('\n')
		}
	}
	cmd := exec.Command(program)
	cmd.Stdin = strings.NewReader(in.String())
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	require.NoError(t, cmd.Run(), "%s\n%s", &stderr, in.String())
	code := make([]unix.SockFilter, out.Len()/8)
	require.NoError(t, binary.Read(&out, binary.LittleEndian, code))
	require.NotEmpty(t, code)
	return code
}

// libAction: seccomp.h has the kernel's numbers.
func libAction(a action) uint32 { return uint32(a) }

// TestLikeLibseccomp: the filters of Docker's profile, of ours and of random ones do what libseccomp's do.
func TestLikeLibseccomp(t *testing.T) {
	program := testenv.C(t, exportSource, "-lseccomp")
	for name, p := range own(t) {
		t.Run(name, func(t *testing.T) {
			for call, rules := range p.rules { // which of two actions counts is not said of libseccomp
				if slices.ContainsFunc(rules, func(r rule) bool { return r.action != rules[0].action }) {
					p.rules[call] = nil
				}
			}
			likeLibseccomp(t, program, p)
		})
	}
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 2))
		raw := randomProfile(rng, 25)
		tame(raw)
		p, err := fromOCI(raw)
		require.NoError(t, err)
		t.Run(fmt.Sprintf("random %d", seed), func(t *testing.T) { likeLibseccomp(t, program, p) })
	}
}

// tame leaves out of a random profile what libseccomp (2.5.4) itself gets wrong or does not define: two actions of one
// call, rules of one call on several arguments or with several orderings, values wider than an argument, and "less than 0".
func tame(raw *specs.LinuxSeccomp) {
	first := map[string]specs.LinuxSyscall{}
	narrow := len(raw.Architectures) > 0
	for i := range raw.Syscalls {
		s := &raw.Syscalls[i]
		if len(s.Args) > 0 {
			s.Args = s.Args[:1]
		}
		for j := range s.Args {
			a := &s.Args[j]
			if f, ok := first[s.Names[0]]; ok && len(f.Args) > 0 {
				a.Index, a.Op, a.ValueTwo = f.Args[0].Index, specs.OpEqualTo, 0
			}
			if narrow {
				a.Value, a.ValueTwo = uint64(uint32(a.Value)), uint64(uint32(a.ValueTwo))
			}
			if a.Op == specs.OpLessThan {
				a.Value = max(a.Value, 1)
			}
		}
		if f, ok := first[s.Names[0]]; ok {
			s.Action = f.Action
		}
		if f := first[s.Names[0]]; len(f.Args) == 0 {
			first[s.Names[0]] = *s
		}
	}
}

func likeLibseccomp(t *testing.T, program string, p *Profile) {
	t.Helper()
	theirs := libseccomp(t, program, p)
	ours, err := p.Compile("amd64")
	require.NoError(t, err)
	compared := 0
	everyCall(p, "amd64", func(c call) {
		if !comparable(c) {
			return
		}
		compared++
		got, want := interpret(t, ours.Code, c), interpret(t, theirs, c)
		if got != want {
			t.Fatalf("call %#x of arch %#x with %#x: ours %#x, libseccomp's %#x\n%v", c.number, c.arch, c.args, got, want, p.rules[nameOf(c)])
		}
	})
	t.Logf("%d calls, %d instructions and %d of libseccomp", compared, len(ours.Code), len(theirs))
}

// newest is the newest call that libseccomp 2.5.4 knows: the last of its table.
const newest = 450

// comparable leaves out what differs on purpose or by age: calls that libseccomp is too old for, numbers without a
// name (ENOSYS here), and the calls of i386 that are also numbers of socketcall and ipc, to which it adds rules.
func comparable(c call) bool {
	name := nameOf(c)
	number := c.number &^ x32Bit
	switch {
	case c.arch != unix.AUDIT_ARCH_X86_64 && c.arch != unix.AUDIT_ARCH_I386:
		return true
	case name == "", number > newest && number < 512:
		return false
	case name == "uprobe" || name == "uretprobe":
		return false
	}
	return c.arch != unix.AUDIT_ARCH_I386 || name != "socketcall" && name != "ipc" && (number < 337 || number > 402)
}

func nameOf(c call) string {
	for _, a := range machines()["amd64"] {
		if a.audit != c.arch {
			continue
		}
		for name, nr := range a.numbers {
			if nr == c.number {
				return name
			}
		}
	}
	return ""
}
