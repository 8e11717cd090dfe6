//go:build linux

package vmtest

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox/internal/vmtest/plan"
)

func TestOutputOf(t *testing.T) {
	a, b, c := plan.Program{Name: "a"}, plan.Program{Name: "b"}, plan.Program{Name: "c"}
	text := "boot\n\n" + a.Begin() + "\nout of a\n\n" + a.End(nil) + "\n\n" + b.Begin() + "\nout of b\n\n" + b.End(errors.New("wait status 0x100")) +
		"\n\n" + c.Begin() + "\nout of"
	for _, tt := range []struct {
		p        plan.Program
		out, end string
	}{{a, "out of a\n", "<nil>"}, {b, "out of b\n", "wait status 0x100"}, {c, "out of", ""}, {plan.Program{Name: "d"}, "", ""}} {
		out, end := outputOf([]byte(text), tt.p)
		require.Equal(t, tt.out, string(out))
		require.Equal(t, tt.end, end)
	}
}

// What a test binary writes: each kind of end, and the output with the test that it came from.
func TestResults(t *testing.T) {
	const text = `=== RUN   TestGood
=== RUN   TestGood/part
--- PASS: TestGood/part (0.00s)
--- PASS: TestGood (0.00s)
=== RUN   TestBad
=== RUN   TestBad/part
    x_test.go:1: got 1, want 2
--- FAIL: TestBad/part (0.00s)
--- FAIL: TestBad (0.00s)
=== RUN   TestSkipped
    x_test.go:2: too lazy
--- SKIP: TestSkipped (0.00s)
=== RUN   TestCut
`
	r, err := parse([]byte(strings.NewReplacer("=== ", "\x16=== ", "--- ", "\x16--- ").Replace(text)))
	require.NoError(t, err)
	require.Equal(t, 4, r.count())
	for path, want := range map[string]string{
		"TestGood": "", "TestGood/part": "", "TestBad": "failed", "TestBad/part": "got 1, want 2", "TestSkipped": "too lazy", "TestCut": "no result",
	} {
		fault := r.find(strings.Split(path, "/")).fault(nil)
		require.Contains(t, fault, want, path)
		require.Equal(t, want == "", fault == "", path)
	}
	require.Empty(t, r.find([]string{"TestSkipped"}).fault(regexp.MustCompile("too lazy")))
	require.NotContains(t, r.find([]string{"TestSkipped"}).fault(nil), "got 1")
	require.Contains(t, r.fault(nil), "no result", "the binary did not say how it ended")
}
