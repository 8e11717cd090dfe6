package sandbox_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/escape"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// asRootAndUser is testenv.RootAndUser for tests that make attempts.
func asRootAndUser(t *testing.T, f func(t *testing.T)) {
	escape.Program(t)
	testenv.RootAndUser(t, f)
}

// attemptCmd makes an attempt in a sandbox, whatever its root: the program is descriptor 3.
func attemptCmd(t testing.TB, args ...string) *sandbox.Cmd {
	f, err := os.Open(escape.Program(t))
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

// control is what a program prints without a sandbox.
func control(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}
