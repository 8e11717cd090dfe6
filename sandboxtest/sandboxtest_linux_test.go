package sandboxtest_test

import (
	"strings"
	"testing"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
	"github.com/seed-5a9fb6e0/sandbox/sandboxtest"
)

func TestMain(m *testing.M) { testenv.Main(m, testenv.Options{Release: spawn.Release}) }

// A test of one's own tool, as root and as an ordinary user.
func Example() {
	testTool := func(t *testing.T) {
		sb := sandboxtest.New(t, sandbox.Options{Hostname: "fixture"})
		if got := sandboxtest.Output(t, sb, sandbox.Command("hostname")); strings.TrimSpace(got) != "fixture" {
			t.Errorf("hostname: %q", got)
		}
	}
	_ = testTool // go test calls it
	// Output:
}

// The sandbox is built, runs, and is closed with its test.
func TestNew(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		st, err := sandbox.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		var sb *sandbox.Sandbox
		t.Run("inner", func(t *testing.T) {
			sb = sandboxtest.New(t, sandbox.Options{Store: st, Hostname: "fixture"})
			if got := sandboxtest.Output(t, sb, sandbox.Command("hostname")); got != "fixture\n" {
				t.Errorf("hostname: %q", got)
			}
		})
		if err := sb.Prepare(t.Context()); err == nil {
			t.Error("the sandbox outlived its test")
		}
	})
}
