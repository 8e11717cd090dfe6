// Package sandboxtest helps tests that run commands in sandboxes: what a test
// makes ends with it, and what went wrong is in its log.
//
//	func TestTool(t *testing.T) {
//		sb := sandboxtest.New(t, sandbox.Options{})
//		out := sandboxtest.Output(t, sb, sandbox.Command("tool", "--version"))
//		…
//	}
//
//	func TestServer(t *testing.T) {
//		sb := sandboxtest.New(t, sandbox.Options{Image: "nginx:1.27"})
//		sandboxtest.Start(t, sb, sandbox.Entrypoint(), sandboxtest.HTTP("http://localhost/"))
//		client := http.Client{Transport: &http.Transport{DialContext: sb.Dial}}
//		…
//	}
//
// # Guarantees
//
// New's sandbox is closed when the test and its subtests have ended, and the
// test fails if that leaves anything. Output fails the test for a command that
// does not exit with 0, with the end of its standard error. Start's command is
// ready when Start returns, and has ended when the functions of t.Cleanup that
// were registered before it run: those of its sandbox. A test that failed has in
// its log what the command wrote. What a command wrote can't pass for go test's own
// lines.
//
// All functions may be called concurrently, as far as testing.T allows: what
// fails or skips a test is for the test's own goroutine (FailNow).
//
// # Not guaranteed
//
// Tests of one package share the default store unless Options.Store is set.
//
// # Privileges and kernels
//
// Those of package sandbox. Where a machine can't run sandboxes a test fails,
// with the remedy in its log: a skip would hide it. Who wants the skip calls
// NewOrSkip.
package sandboxtest

import (
	"errors"
	"testing"

	"github.com/seed-5a9fb6e0/sandbox"
)

// New returns a sandbox that is built, and closed at the end of the test.
func New(t testing.TB, o sandbox.Options) *sandbox.Sandbox {
	t.Helper()
	sb, err := prepared(t, o)
	if err != nil {
		t.Fatal(err)
	}
	return sb
}

// NewOrSkip is New for a test that not every machine can run: where this kernel or user can't have such a sandbox
// (errors.ErrUnsupported) the test is skipped, and its log says what is missing and what to do about it. Any other
// error fails it. What a Cmd asks for besides is not tried: sandbox.Check does that.
func NewOrSkip(t testing.TB, o sandbox.Options) *sandbox.Sandbox {
	t.Helper()
	sb, err := prepared(t, o)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	return sb
}

func prepared(t testing.TB, o sandbox.Options) (*sandbox.Sandbox, error) {
	t.Helper()
	sb := sandbox.New(o)
	t.Cleanup(func() {
		if err := sb.Close(); err != nil {
			t.Error(err)
		}
	})
	return sb, sb.Prepare(t.Context())
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
