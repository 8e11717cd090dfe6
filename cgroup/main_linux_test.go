package cgroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// helperEnv makes the test binary one of the helpers instead.
const helperEnv = "CGROUP_TEST_HELPER"

func TestMain(m *testing.M) {
	if name := os.Getenv(helperEnv); name != "" {
		if err := helpers[name](os.Args[1:]); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	fds := openFDs()
	code := m.Run()
	// The poller's descriptors come with the first child and stay.
	if n := openFDs(); n > fds+3 {
		fmt.Printf("leak: %d descriptors before, %d after\n", fds, n)
		code = 99
	}
	for range 100 {
		if runtime.NumGoroutine() <= 2 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > 2 && code == 0 && !fuzzing() {
		buf := make([]byte, 1<<16)
		fmt.Printf("leak: %d goroutines\n%s\n", n, buf[:runtime.Stack(buf, true)])
		code = 99
	}
	os.Exit(code)
}

func fuzzing() bool {
	for _, a := range os.Args {
		if strings.HasPrefix(a, "-test.fuzz=") {
			return true
		}
	}
	return false
}

func openFDs() int {
	e, _ := os.ReadDir("/proc/self/fd")
	return len(e)
}

// helpers are run in a process of their own.
var helpers = map[string]func(args []string) error{
	"hog":     hog,
	"hold":    hold,
	"spin":    spin,
	"huge":    huge,
	"owner":   owner,
	"recover": recoverOwn,
	"group":   makeGroup,
}

// helper is the command of a helper.
func helper(t testing.TB, name string, args ...string) *exec.Cmd {
	exe, err := os.Executable()
	require.NoError(t, err)
	c := exec.Command(exe, args...)
	c.Env = append(os.Environ(), helperEnv+"="+name)
	return c
}

// hog touches so many MiB.
func hog(args []string) error {
	n, err := strconv.Atoi(args[0])
	b := make([]byte, n<<20)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	runtime.KeepAlive(b)
	return err
}

// hold touches so many MiB and keeps them; it can't be reclaimed.
func hold(args []string) error {
	n, err := strconv.Atoi(args[0])
	b := make([]byte, n<<20)
	for i := range b {
		b[i] = byte(i)
	}
	time.Sleep(time.Hour)
	runtime.KeepAlive(b)
	return err
}

// spin uses CPU for so long.
func spin(args []string) error {
	d, err := time.ParseDuration(args[0])
	for end := time.Now().Add(d); time.Now().Before(end); {
	}
	return err
}

var treeSeq atomic.Int64

// unique is a name that no other test or process uses.
func unique() string { return fmt.Sprintf("t%d-%d", os.Getpid(), treeSeq.Add(1)) }

// openTree opens a tree that is gone, with all directories, at the end of the test.
func openTree(t testing.TB, o Options) *Tree {
	if o.Name == "" {
		o.Name = unique()
	}
	tree, err := Open(o)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, tree.Close(limit(t)))
		require.Empty(t, dirs(o.Name))
	})
	return tree
}

// limit bounds what could hang. (The test's own context is cancelled before cleanups.)
func limit(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// dirs finds the directories of that owner, or of that name, in all hierarchies, not asking the package under test.
func dirs(name string) []string {
	var found []string
	_ = filepath.WalkDir("/sys/fs/cgroup", func(p string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() && strings.Contains("."+e.Name()+".", "."+name+".") {
			found = append(found, p)
		}
		return nil
	})
	return found
}

// inside is a command that enters g by itself and goes on as args.
func inside(t testing.TB, g *Group, args ...string) *exec.Cmd {
	c, _ := joining(t, g, args...)
	return c
}

// joining is inside with the Join, to be closed when the command has started, or by the end of the test.
func joining(t testing.TB, g *Group, args ...string) (*exec.Cmd, *Join) {
	j, err := g.Join()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, j.Close()) })
	var script strings.Builder
	for i := range j.Tasks {
		fmt.Fprintf(&script, "echo 0 >&%d && exec %d>&- && ", 3+i, 3+i)
	}
	c := exec.Command("/bin/sh", append([]string{"-c", script.String() + `exec "$@"`, "sh"}, args...)...)
	c.ExtraFiles = j.Tasks
	if j.Dir != nil {
		c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(j.Dir.Fd())}
	}
	return c, j
}

// insideHelper is inside for a helper.
func insideHelper(t testing.TB, g *Group, name string, args ...string) *exec.Cmd {
	h := helper(t, name, args...)
	c := inside(t, g, h.Args...)
	c.Env = h.Env
	return c
}

// run starts c, and ends it with the test.
func run(t testing.TB, c *exec.Cmd) *exec.Cmd {
	require.NoError(t, c.Start())
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	return c
}

// sleeper runs in g until it is killed.
func sleeper(t testing.TB, g *Group) *exec.Cmd {
	c := run(t, inside(t, g, "sleep", "1000"))
	eventually(t, func() bool { return strings.HasPrefix(slurp(fmt.Sprintf("/proc/%d/cmdline", c.Process.Pid)), "sleep") })
	return c
}

// killed waits for c and says whether SIGKILL ended it.
func killed(c *exec.Cmd) bool {
	_ = c.Wait()
	return c.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
}

// eventually waits for f. How long is for who waits for what never comes: it must be enough in a guest on a busy machine.
func eventually(t testing.TB, f func() bool) {
	t.Helper()
	require.Eventually(t, f, time.Minute, 2*time.Millisecond)
}

func slurp(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}

// cgroupOf is the path of a process in the hierarchy that has c.
func cgroupOf(t testing.TB, pid int, c Controllers) string {
	m, err := detect("")
	require.NoError(t, err)
	name := strings.ReplaceAll(c.String(), "io", blkio)
	for _, h := range m.hier {
		if h.v2 && h.ctl&c != 0 {
			name = ""
		}
	}
	for line := range strings.Lines(slurp(fmt.Sprintf("/proc/%d/cgroup", pid))) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if slices.Contains(strings.Split(f[1], ","), name) {
			return f[2]
		}
	}
	return ""
}

// has says whether the machine has v2 or, with other controllers, any of them; what is not mounted is refused by name.
func has(t testing.TB, c Controllers) bool {
	t.Helper()
	m, err := detect("")
	require.NoError(t, err)
	if m.available()&c != 0 {
		return true
	}
	_, err = Open(Options{Name: unique(), Controllers: c})
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, c.String()+" controller: not mounted")
	t.Log("not mounted here: ", c)
	return false
}

// present are those of all that the machine has.
func present(t testing.TB, all ...Controllers) []Controllers {
	t.Helper()
	return slices.DeleteFunc(all, func(c Controllers) bool { return !has(t, c) })
}

// onV2 says whether the machine has c on v2.
func onV2(t testing.TB, c Controllers) bool {
	m, err := detect("")
	require.NoError(t, err)
	return slices.ContainsFunc(m.hier, func(h *hierarchy) bool { return h.v2 && h.ctl&c != 0 })
}

// output runs c and returns what it printed.
func output(t testing.TB, c *exec.Cmd) string {
	b, err := c.CombinedOutput()
	require.NoError(t, err, "%s", b)
	return string(bytes.TrimSpace(b))
}

// hasMemoryPeak says whether the kernel keeps the peak of memory: v1 always, v2 since Linux 5.19.
func hasMemoryPeak(g *Group) bool {
	h := g.in(Memory)
	return h != nil && (!h.v2 || exists(g.dir(h)+"/memory.peak"))
}

// hasPIDsPeak says whether it keeps that of tasks: since Linux 6.1.
func hasPIDsPeak(g *Group) bool {
	h := g.in(PIDs)
	return h != nil && exists(g.dir(h)+"/pids.peak")
}

// memoryLimit is what the kernel has as the limit of memory; "" for none.
func memoryLimit(t testing.TB, g *Group) string {
	if g.in(Memory).v2 {
		return strings.TrimPrefix(value(t, g, Memory, "memory.max"), "max")
	}
	return strings.TrimPrefix(value(t, g, Memory, "memory.limit_in_bytes"), "9223372036854771712")
}

// cpuQuota is what the kernel has as quota and period; "" for no limit.
func cpuQuota(t testing.TB, g *Group) string {
	if g.in(CPU).v2 {
		s := value(t, g, CPU, "cpu.max")
		if strings.HasPrefix(s, "max") {
			return ""
		}
		return s
	}
	quota := value(t, g, CPU, cfsQuota)
	if quota == "-1" {
		return ""
	}
	return quota + " " + value(t, g, CPU, cfsPeriod)
}

// value is a file of a group.
func value(t testing.TB, g *Group, c Controllers, file string) string {
	h := g.in(c)
	require.NotNil(t, h)
	return strings.TrimSpace(slurp(g.dir(h) + "/" + file))
}
