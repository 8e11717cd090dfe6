package escape

import (
	_ "embed"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

//go:embed testdata/attempt.c
var source string

// Program is the static program that makes attempts: "attempt NAME [ARG…]" prints
// "ok", the name of an errno, or that of the signal that ended it. Tests of a user must
// have called it before they became his.
func Program(t testing.TB) string { return testenv.C(t, source) }

// A Control is who makes an attempt without the guards.
type Control int

const (
	// Namespaces: root of namespaces of its own, with all capabilities.
	Namespaces Control = iota
	// Root: the machine's root; no control where the tests are an ordinary user's.
	Root
	// Nobody: a process without privilege and without a sandbox.
	Nobody
	// Unfiltered: the sandbox without its system call filter, which is the only guard:
	// Bare is the control.
	Unfiltered
)

// A Vector is a way out. Of several results with | between them each is right.
type Vector struct {
	Name string
	Args []string // of the program
	Want string   // what a sandbox answers
	// Bare is what it answers without a filter: the guards below. Empty: Want.
	Bare    string
	Control Control
	Reaches string // what the control answers; empty: "ok"
	// Host: over the host's userland only.
	Host bool
}

// Answers says whether got is one of the results in want.
func Answers(want, got string) bool { return slices.Contains(strings.Split(want, "|"), got) }

// Try makes the control's attempt. ok is false where there is none: of root's by a user, and where Bare is it.
func (v Vector) Try(t testing.TB) (got string, ok bool) {
	t.Helper()
	cmd := exec.Command(Program(t), v.Args...)
	switch {
	case v.Control == Unfiltered, v.Control == Root && os.Getuid() != 0:
		return "", false
	case v.Control == Namespaces:
		ownNamespaces(cmd)
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the control of %s: %v", v.Name, err)
	}
	return strings.TrimSpace(string(out)), true
}

// Outside makes an attempt without any sandbox.
func Outside(t testing.TB, args ...string) string {
	got, _ := Vector{Name: args[0], Args: args, Control: Nobody}.Try(t)
	return got
}

func ownNamespaces(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS |
			syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET | syscall.CLONE_NEWCGROUP,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
}
