package sandbox_test

import (
	_ "embed"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

//go:embed testdata/attempt.c
var attemptSource string

// attemptProgram is the static program that makes attempts. Tests of a user
// must have called it before they became his.
func attemptProgram(t testing.TB) string { return testenv.C(t, attemptSource) }

// asRootAndUser is testenv.RootAndUser for tests that make attempts.
func asRootAndUser(t *testing.T, f func(t *testing.T)) {
	attemptProgram(t)
	testenv.RootAndUser(t, f)
}

// attemptCmd makes an attempt in a sandbox, whatever its root: the program is descriptor 3.
func attemptCmd(t testing.TB, args ...string) *sandbox.Cmd {
	f, err := os.Open(attemptProgram(t))
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return &sandbox.Cmd{Args: append([]string{"/proc/self/fd/3"}, args...), ExtraFiles: []*os.File{f}}
}

// unfiltered is for tests of what holds without a system call filter, too.
var unfiltered = sandbox.Security{Seccomp: "off"}

// inside makes an attempt in a sandbox and returns what it prints: an errno's name, or "ok".
func inside(t testing.TB, sb *sandbox.Sandbox, args ...string) string {
	t.Helper()
	return output(t, sb, attemptCmd(t, args...))
}

// output is what a command prints that ends well.
func output(t testing.TB, sb *sandbox.Sandbox, c *sandbox.Cmd) string {
	t.Helper()
	out, err := sb.Output(t.Context(), c)
	require.NoError(t, err, "%s", out)
	return strings.TrimSpace(string(out))
}

// shell runs a script in a sandbox.
func shell(t testing.TB, sb *sandbox.Sandbox, script string) string {
	t.Helper()
	return output(t, sb, sandbox.Command("sh", "-c", script))
}

// outside makes an attempt without any sandbox: the control, which shows that it works there.
func outside(t testing.TB, args ...string) string {
	t.Helper()
	return control(t, exec.Command(attemptProgram(t), args...))
}

// inOwnNamespaces makes an attempt as root of namespaces of its own, with all capabilities: another control.
func inOwnNamespaces(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.Command(attemptProgram(t), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS |
			syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET | syscall.CLONE_NEWCGROUP,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	return control(t, cmd)
}

func control(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}
