//go:build linux

package spawn

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A testCgroup is a directory of a cgroup v1 hierarchy, removed at the end of the test.
type testCgroup string

func newCgroup(t testing.TB, controller string) testCgroup {
	t.Helper()
	dir, err := os.MkdirTemp("/sys/fs/cgroup/"+controller, fmt.Sprintf("sandbox-test-%d-", os.Getpid()))
	require.NoError(t, err, "needs cgroup v1's %s controller", controller)
	t.Cleanup(func() {
		// A task leaves its cgroup a moment after it was waited for.
		eventually(t, "rmdir "+dir, func() bool { return os.Remove(dir) == nil })
	})
	return testCgroup(dir)
}

func (c testCgroup) write(t testing.TB, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(string(c), name), []byte(text), 0))
}

func (c testCgroup) read(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(string(c), name))
	require.NoError(t, err)
	return string(text)
}

func (c testCgroup) open(t testing.TB, name string) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(string(c), name), os.O_WRONLY, 0)
	require.NoError(t, err)
	return f
}

// joining is a program that enters the cgroup whose tasks file this is, by itself; nested: its nested child does.
func joining(tasks *os.File, nested bool, argv ...string) func(*Program) {
	return command(func(p *Program) {
		fd := p.Input(int(tasks.Fd()))
		if nested {
			p.ForkCommand(unix.CLONE_NEWPID, NoRef)
		}
		p.Do("write", "tasks", unix.SYS_WRITE, fd, "0", 1)
	}, argv...)
}
