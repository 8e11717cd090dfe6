// Package sandboxtest helps tests that run commands in sandboxes: what a test
// makes ends with it, and what went wrong is in its log.
//
//	func TestTool(t *testing.T) {
//		sb := sandboxtest.New(t, sandbox.Options{})
//		out := sandboxtest.Output(t, sb, sandbox.Command("tool", "--version"))
//		…
//	}
//
// # Guarantees
//
// New's sandbox is closed when the test and its subtests have ended, and the
// test fails if that leaves anything. Output fails the test for a command that
// does not exit with 0, with the end of its standard error.
//
// # Not guaranteed
//
// Tests of one package share the default store unless Options.Store is set.
//
// # Privileges and kernels
//
// Those of package sandbox. Where a machine can't run sandboxes a test fails,
// with the remedy in its log: a skip would hide it.
package sandboxtest

import (
	"testing"

	"github.com/seed-5a9fb6e0/sandbox"
)

// New returns a sandbox that is built, and closed at the end of the test.
func New(t testing.TB, o sandbox.Options) *sandbox.Sandbox {
	t.Helper()
	sb := sandbox.New(o)
	t.Cleanup(func() {
		if err := sb.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := sb.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return sb
}

// Output runs a command and returns what it wrote to standard output. It is
// killed when the test ends.
func Output(t testing.TB, sb *sandbox.Sandbox, c *sandbox.Cmd) string {
	t.Helper()
	out, err := sb.Output(t.Context(), c)
	if err != nil {
		t.Fatalf("%q: %v", c.Args, err)
	}
	return string(out)
}
