package sandbox_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Tests of embedding programs run this binary again in one of these roles.
const roleEnv, dirEnv, argEnv = "SANDBOX_TEST_ROLE", "SANDBOX_TEST_DIR", "SANDBOX_TEST_ARG"

var roles = map[string]func() int{
	"odd": role(playOdd), "not dumpable": role(playNotDumpable), "hold": role(playHold), "parent": role(playParent), "churn": role(playChurn),
	"container": role(playContainer), "contained": role(playContained), "namespaces off": role(playNamespacesOff),
	"terminal": playTerminal, "cling": role(playCling), "log": role(playLog),
}

// role runs f as an embedding program, which ends with the test that started it.
func role(f func(dir string) error) func() int {
	return func() int {
		go func() { _, _ = os.NewFile(3, "life").Read(make([]byte, 1)); os.Exit(2) }() // ends the program
		if err := f(os.Getenv(dirEnv)); err != nil {
			fmt.Println("error:", err)
			return 1
		}
		return 0
	}
}

// An embedder is a program of its own that uses the package.
type embedder struct {
	*exec.Cmd
	out *bufio.Reader
}

// newEmbedder prepares a program of this role that works in a directory; wrap runs it, if given.
func newEmbedder(role, dir, arg string, wrap ...string) *embedder {
	cmd := append(wrap, "/proc/self/exe")
	e := &embedder{Cmd: exec.Command(cmd[0], cmd[1:]...)}
	if len(wrap) > 0 {
		exe, _ := os.Readlink("/proc/self/exe")
		e.Args[len(e.Args)-1] = exe
	}
	e.Env = append(os.Environ(), roleEnv+"="+role, dirEnv+"="+dir, argEnv+"="+arg)
	e.Stderr = os.Stderr
	return e
}

// start starts it. It ends with the test.
func (e *embedder) start(t testing.TB) *embedder {
	t.Helper()
	life, hold, err := os.Pipe()
	require.NoError(t, err)
	e.ExtraFiles = append([]*os.File{life}, e.ExtraFiles...)
	out, err := e.StdoutPipe()
	require.NoError(t, err)
	e.out = bufio.NewReader(out)
	require.NoError(t, errors.Join(e.Start(), life.Close()))
	t.Cleanup(func() { e.kill(); hold.Close() })
	return e
}

// line returns the next line that it prints.
func (e *embedder) line(t testing.TB) string {
	t.Helper()
	s, err := e.out.ReadString('\n')
	require.NoError(t, err, "%s", s)
	require.False(t, strings.HasPrefix(s, "error:"), s)
	return strings.TrimSpace(s)
}

// kill ends it by SIGKILL and returns when it is gone.
func (e *embedder) kill() {
	_ = e.Process.Kill()
	_ = e.Wait()
}

// end waits for its own end and returns what it printed.
func (e *embedder) end(t testing.TB) (lines []string) {
	t.Helper()
	for {
		s, err := e.out.ReadString('\n')
		if err != nil {
			break
		}
		lines = append(lines, strings.TrimSpace(s))
	}
	require.NoError(t, e.Wait(), "%q", lines)
	return lines
}
