package seccomp

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A Profile says what becomes of every system call.
type Profile struct {
	// Name is what the profile is called: "default", "strict", "docker" or "own".
	Name string
	// other is for calls that no rule is for.
	other action
	// archs are named besides the machine's own.
	archs []specs.Arch
	rules map[string][]rule // by system call
	flags uint              // of seccomp(2)
}

// A rule is one of those for a system call: where its conditions hold and those
// of none before it, its action is taken.
type rule struct {
	conditions []condition // all hold
	action     action
}

// A condition compares an argument.
type condition struct {
	index uint
	op    specs.LinuxSeccompOperator
	value uint64
	datum uint64 // of SCMP_CMP_MASKED_EQ, whose mask is value
}

// An action is what a filter returns (seccomp(2)): SECCOMP_RET_… and 16 bits of data.
type action uint32

const (
	allow       action = unix.SECCOMP_RET_ALLOW
	killProcess action = unix.SECCOMP_RET_KILL_PROCESS
)

func errno(e unix.Errno) action { return unix.SECCOMP_RET_ERRNO | action(e) }

func (a action) kind() uint32 { return uint32(a) & unix.SECCOMP_RET_ACTION_FULL }

// stricter orders actions as the kernel does those of several filters: by their
// kinds as signed numbers, the lowest first.
func stricter(a, b action) int { return cmp.Compare(int32(a.kind()), int32(b.kind())) }

// sort puts the rules of each call into the order in which they count.
func (p *Profile) sort() error {
	for name, rules := range p.rules {
		if i := slices.IndexFunc(rules, func(r rule) bool { return len(r.conditions) == 0 }); i >= 0 {
			for _, r := range rules {
				if len(r.conditions) == 0 && r.action != rules[i].action {
					return fmt.Errorf("%s has two actions: leave one of them out", name)
				}
			}
			p.rules[name] = rules[i : i+1]
			continue
		}
		slices.SortStableFunc(rules, func(a, b rule) int { return stricter(a.action, b.action) })
	}
	return nil
}

// decide returns the rules for a call in their order and what is done where none holds.
func (p *Profile) decide(name string) ([]rule, action) {
	if name == "" && p.other.kind() == unix.SECCOMP_RET_ERRNO {
		return nil, errno(unix.ENOSYS) // newer than numbers.txt
	}
	return p.rules[name], p.other
}

// needed are the calls with which a command starts or, where it can't, ends.
var needed = []string{"execve", "exit_group"}

// startable is an error if no command could be started under p.
func (p *Profile) startable() error {
	for _, name := range needed {
		rules, last := p.decide(name)
		for _, r := range append(slices.Clone(rules), rule{action: last}) {
			if a := r.action; a != allow && a.kind() != unix.SECCOMP_RET_LOG {
				return fmt.Errorf("it does not allow %s, without which no command can start: add a rule for it with SCMP_ACT_ALLOW", name)
			}
			if len(r.conditions) == 0 {
				break
			}
		}
	}
	return nil
}
