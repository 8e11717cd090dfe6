package seccomp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	moby "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Load reads a profile of the OCI's (the "seccomp" object of its runtime spec) or of Docker's form for this machine and
// a process with the capabilities caps ("CAP_CHOWN"), on which rules of Docker's form can depend. A profile with
// mistakes in it, with names of calls that no machine has, or under which nothing could start is an error; so is what
// needs a listener: SCMP_ACT_NOTIFY, listenerPath, listenerMetadata.
func Load(text []byte, caps []string) (*Profile, error) {
	if err := strictly(text); err != nil {
		return nil, err
	}
	// Of what is inside they want the form only.
	raw, err := moby.LoadProfile(string(text), &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}})
	if err != nil {
		return nil, err
	}
	if raw == nil {
		return nil, errors.New("it has neither defaultAction nor syscalls")
	}
	p, err := fromOCI(raw)
	if err != nil {
		return nil, err
	}
	p.Name = "own"
	return p, p.startable()
}

// strictly is an error where text has fields that a profile does not have, or more
// than one profile: a slip of the pen would leave out a rule.
func strictly(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var p moby.Seccomp
	if err := d.Decode(&p); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("there is more behind the profile")
	}
	for i, s := range p.Syscalls {
		if s == nil {
			return fmt.Errorf("syscalls[%d] is null", i)
		}
	}
	return nil
}

// fromOCI checks a profile and takes it over.
func fromOCI(raw *specs.LinuxSeccomp) (*Profile, error) {
	if raw.ListenerPath != "" || raw.ListenerMetadata != "" {
		return nil, errors.New("listenerPath and listenerMetadata: there is no listener here, leave them out")
	}
	p := &Profile{rules: map[string][]rule{}}
	var err error
	if p.other, err = parseAction(raw.DefaultAction, raw.DefaultErrnoRet); err != nil {
		return nil, fmt.Errorf("defaultAction: %w", err)
	}
	for _, a := range raw.Architectures {
		if !slices.Contains(ociArchs, a) {
			return nil, fmt.Errorf("architectures: %q is none of the runtime spec's", a)
		}
		p.archs = append(p.archs, a)
	}
	for _, f := range raw.Flags {
		bit, ok := flags[f]
		if !ok {
			return nil, fmt.Errorf("flags: %q is none of SECCOMP_FILTER_FLAG_TSYNC, _LOG and _SPEC_ALLOW", f)
		}
		p.flags |= bit
	}
	for _, s := range raw.Syscalls {
		if err := p.add(s); err != nil {
			return nil, fmt.Errorf("syscalls: %w", err)
		}
	}
	return p, p.sort()
}

// flags are those of seccomp(2). The filter is installed by a process with one
// thread: there are no others that TSYNC would synchronise.
var flags = map[specs.LinuxSeccompFlag]uint{
	"SECCOMP_FILTER_FLAG_TSYNC":     0,
	specs.LinuxSeccompFlagLog:       unix.SECCOMP_FILTER_FLAG_LOG,
	specs.LinuxSeccompFlagSpecAllow: unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
}

// ociArchs are those of the runtime spec.
var ociArchs = []specs.Arch{
	specs.ArchX86, specs.ArchX86_64, specs.ArchX32, specs.ArchARM, specs.ArchAARCH64, specs.ArchMIPS, specs.ArchMIPS64,
	specs.ArchMIPS64N32, specs.ArchMIPSEL, specs.ArchMIPSEL64, specs.ArchMIPSEL64N32, specs.ArchPPC, specs.ArchPPC64,
	specs.ArchPPC64LE, specs.ArchS390, specs.ArchS390X, specs.ArchPARISC, specs.ArchPARISC64, specs.ArchRISCV64,
	specs.ArchLOONGARCH64, specs.ArchM68K, specs.ArchSH, specs.ArchSHEB,
}

// add takes over an entry of "syscalls".
func (p *Profile) add(s specs.LinuxSyscall) error {
	if len(s.Names) == 0 {
		return errors.New("an entry without names")
	}
	a, err := parseAction(s.Action, s.ErrnoRet)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Names[0], err)
	}
	var conditions []condition
	repeated := false
	for _, arg := range s.Args {
		c, err := parseCondition(arg)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Names[0], err)
		}
		repeated = repeated || slices.ContainsFunc(conditions, func(o condition) bool { return o.index == c.index })
		conditions = append(conditions, c)
	}
	rules := []rule{{conditions, a}}
	if repeated { // one of them is enough
		rules = nil
		for _, c := range conditions {
			rules = append(rules, rule{[]condition{c}, a})
		}
	}
	for _, name := range s.Names {
		if !known(name) {
			return fmt.Errorf("%q is no system call that this version knows: see syscalls(2) for its name", name)
		}
		p.rules[name] = append(p.rules[name], rules...)
	}
	return nil
}

func parseAction(name specs.LinuxSeccompAction, data *uint) (action, error) {
	a, ok := actions[name]
	switch {
	case !ok && name == specs.ActNotify:
		return 0, fmt.Errorf("%s needs a listener, which there is none of here", name)
	case !ok:
		return 0, fmt.Errorf("%q is no action of the runtime spec", name)
	}
	takesData := a.kind() == unix.SECCOMP_RET_ERRNO || a.kind() == unix.SECCOMP_RET_TRACE
	switch {
	case data == nil && takesData:
		return a | action(unix.EPERM), nil
	case data == nil:
		return a, nil
	case !takesData:
		return 0, fmt.Errorf("%s has no errnoRet", name)
	case *data > maxErrno && a.kind() == unix.SECCOMP_RET_ERRNO || *data > 0xffff:
		return 0, fmt.Errorf("errnoRet %d is not in 0 to %d", *data, maxErrno)
	}
	return a | action(*data), nil
}

// maxErrno is the highest number that the kernel returns as an errno (MAX_ERRNO in include/linux/err.h).
const maxErrno = 4095

var actions = map[specs.LinuxSeccompAction]action{
	specs.ActKill:        unix.SECCOMP_RET_KILL_THREAD,
	specs.ActKillThread:  unix.SECCOMP_RET_KILL_THREAD,
	specs.ActKillProcess: killProcess,
	specs.ActTrap:        unix.SECCOMP_RET_TRAP,
	specs.ActErrno:       unix.SECCOMP_RET_ERRNO,
	specs.ActTrace:       unix.SECCOMP_RET_TRACE,
	specs.ActLog:         unix.SECCOMP_RET_LOG,
	specs.ActAllow:       allow,
}

func parseCondition(a specs.LinuxSeccompArg) (condition, error) {
	if a.Index > 5 {
		return condition{}, fmt.Errorf("argument %d: they are 0 to 5", a.Index)
	}
	c := condition{a.Index, a.Op, a.Value, a.ValueTwo}
	switch a.Op {
	case specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpGreaterThan, specs.OpGreaterEqual:
		c.datum = 0
	case specs.OpMaskedEqual:
		if c.datum&^c.value != 0 {
			return condition{}, fmt.Errorf("argument %d: valueTwo %#x has bits that the mask %#x does not have: it would never hold", a.Index, c.datum, c.value)
		}
	default:
		return condition{}, fmt.Errorf("argument %d: %q is no operator of the runtime spec", a.Index, a.Op)
	}
	return c, nil
}
