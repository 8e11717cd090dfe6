package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const list = "# reason\nuser\t.\tneeds root\nroot\tpkg/a\\.TestOld\tkernel\n"

func TestSkips(t *testing.T) {
	for _, c := range []struct {
		name, mode, test, text string
		good                   bool
	}{
		{"listed", "user", "TestX", "needs root", true},
		{"listed for user only", "root", "TestX", "needs root", false},
		{"another reason", "user", "TestX", "too lazy", false},
		{"listed by name", "root", "TestOld", "old kernel", true},
		{"listed name, another reason", "root", "TestOld", "too lazy", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			allowed, err := parseSkips(list, c.mode)
			require.NoError(t, err)
			var out bytes.Buffer
			r := newReport(&out)
			require.NoError(t, readEvents(strings.NewReader(`{"Action":"start","Package":"pkg/a"}
{"Action":"run","Package":"pkg/a","Test":"`+c.test+`"}
{"Action":"output","Package":"pkg/a","Test":"`+c.test+`","Output":"    x_test.go:1: `+c.text+`\n"}
{"Action":"skip","Package":"pkg/a","Test":"`+c.test+`"}
{"Action":"output","Package":"pkg/a","Output":"ok  \tpkg/a\t0.1s\n"}
`), r))
			require.Equal(t, c.good, r.finish(c.mode, allowed), out.String())
			require.Contains(t, out.String(), c.text, "a skip says why")
			require.Contains(t, out.String(), "ok  \tpkg/a\t0.1s\n")
		})
	}
}

func TestSkipsMalformed(t *testing.T) {
	for _, text := range []string{"user . x\n", "both\t.\tx\n", "user\t(\tx\n", "user\t.\t(\n"} {
		_, err := parseSkips(text, "user")
		require.ErrorContains(t, err, "line 1")
	}
}

func TestOutput(t *testing.T) {
	var out bytes.Buffer
	r := newReport(&out)
	require.NoError(t, readEvents(strings.NewReader(`{"Action":"run","Package":"p","Test":"TestGood"}
{"Action":"output","Package":"p","Test":"TestGood","Output":"=== RUN   TestGood\n"}
{"Action":"output","Package":"p","Test":"TestGood","Output":"chatter\n"}
{"Action":"pass","Package":"p","Test":"TestGood"}
{"Action":"run","Package":"p","Test":"TestBad"}
{"Action":"output","Package":"p","Test":"TestBad","Output":"    p_test.go:1: got 1, want 2\n"}
{"Action":"output","Package":"p","Test":"TestBad","Output":"--- FAIL: TestBad (0.00s)\n"}
{"Action":"fail","Package":"p","Test":"TestBad"}
{"Action":"run","Package":"p","Test":"TestPanic"}
{"Action":"output","Package":"p","Test":"TestPanic","Output":"panic: oh\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p"}
not json
{"ImportPath":"q","Action":"build-output","Output":"q.go:1: syntax error\n"}
`), r))
	require.False(t, r.finish("root", nil))
	for _, want := range []string{"got 1, want 2", "--- FAIL: TestBad", "no result: p.TestPanic", "panic: oh", "FAIL\tp\t0.1s", "not json", "syntax error", "1 passed, 1 failed"} {
		require.Contains(t, strings.ReplaceAll(out.String(), "tests passed", "passed"), want)
	}
	require.NotContains(t, out.String(), "chatter")
	require.Equal(t, 3, len(r.lines), r.lines)
}
