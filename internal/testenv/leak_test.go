//go:build linux

package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// found tells, of everything that is new since before, what is of the kind and says what.
func found(s *scope, before snapshot, kind, what string) string {
	for _, l := range s.settle(before, false, 300*time.Millisecond) {
		if l.kind == kind && strings.Contains(l.what, what) {
			return l.what
		}
	}
	return ""
}

// Every kind is found while it is there, and not before or after.
func TestKinds(t *testing.T) {
	var root = os.Getuid() == 0
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	s := *running
	s.options.Dirs = []string{dir, "/nonexistent"}
	for _, c := range []struct {
		kind  string
		root  bool
		leave func(t *testing.T) (what string, clean func())
	}{
		{"goroutine", false, leaveGoroutine},
		{"descriptor", false, leaveDescriptor},
		{"namespace of a thread", true, leaveThread},
		{"process", false, leaveChild},
		{"process", false, leaveZombie},
		{"process", false, leaveDaemon},
		{"orphan process in new namespaces", true, leaveOrphan},
		{"mount", true, func(t *testing.T) (string, func()) { return leaveMount(t, dir) }},
		{"cgroup", true, leaveCgroup},
		{"file", false, func(t *testing.T) (string, func()) { return leaveFile(t, dir) }},
	} {
		t.Run(c.kind, func(t *testing.T) {
			if c.root && !root {
				Root(t)
			}
			before, err := s.take(false)
			require.NoError(t, err)
			what, clean := c.leave(t)
			var got string
			for end := time.Now().Add(settleTime); got == "" && time.Now().Before(end); { // a program takes time to get there
				got = found(&s, before, c.kind, what)
			}
			clean()
			require.NotEmpty(t, got, "%q was not found", what)
			for end := time.Now().Add(settleTime); found(&s, before, c.kind, what) != ""; {
				require.True(t, time.Now().Before(end), "%q is still found", what)
			}
		})
	}
}

func leaveGoroutine(*testing.T) (string, func()) {
	end := make(chan struct{})
	go waitFor(end)
	return "testenv.waitFor", func() { close(end) }
}

func waitFor(end chan struct{}) { <-end }

func leaveDescriptor(t *testing.T) (string, func()) {
	fd, err := unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	return fmt.Sprintf("%d -> /dev/zero", fd), func() { require.NoError(t, unix.Close(fd)) }
}

// onThread runs f on a thread that ends with it, for the goroutine doesn't unlock it. The main thread would not end.
func onThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != os.Getpid() {
			f()
			return
		}
		onThread(f)
		time.Sleep(10 * time.Millisecond) // the other goroutine must not get this thread
		runtime.UnlockOSThread()
	}()
}

// leaveThread keeps a thread in a namespace of its own; it ends with its goroutine, which doesn't unlock it.
func leaveThread(t *testing.T) (string, func()) {
	ready, end := make(chan string), make(chan struct{})
	onThread(func() {
		if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
			t.Error(err)
		}
		ns, err := os.Readlink("/proc/thread-self/ns/uts")
		if err != nil {
			t.Error(err)
		}
		ready <- ns
		<-end
	})
	return <-ready, func() { close(end) }
}

func leaveChild(t *testing.T) (string, func()) {
	cmd := exec.Command("sleep", "1000")
	cmd.Env = []string{"NOTHING=1"}
	require.NoError(t, cmd.Start())
	return fmt.Sprintf("%d \"sleep\"", cmd.Process.Pid), func() {
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
	}
}

func leaveZombie(t *testing.T) (string, func()) {
	cmd := exec.Command("true")
	require.NoError(t, cmd.Start())
	return fmt.Sprintf("%d \"true\", state Z", cmd.Process.Pid), func() { require.NoError(t, cmd.Wait()) }
}

// leaveDaemon leaves a process that no longer descends from us and still has our environment.
func leaveDaemon(t *testing.T) (string, func()) { return leaveBackground(t, "setsid sleep 1000") }

// leaveOrphan leaves one that has no trace of us.
func leaveOrphan(t *testing.T) (string, func()) {
	return leaveBackground(t, "env -i setsid unshare --mount --pid --fork --kill-child sleep 1000")
}

func leaveBackground(t *testing.T, command string) (string, func()) {
	out, err := exec.Command("sh", "-c", command+" >/dev/null 2>&1 & echo $!").Output()
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	require.NoError(t, err)
	return strconv.Itoa(pid) + " ", func() { require.NoError(t, syscall.Kill(pid, syscall.SIGKILL)) }
}

func leaveMount(t *testing.T, dir string) (string, func()) {
	require.NoError(t, unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	return dir, func() { require.NoError(t, unix.Unmount(dir, 0)) }
}

func leaveCgroup(t *testing.T) (string, func()) {
	trees, err := cgroupTrees()
	require.NoError(t, err)
	require.NotEmpty(t, trees, "no cgroup hierarchy is mounted")
	dir := fmt.Sprintf("%s/sandbox-testenv-%d", trees[len(trees)-1].dir, os.Getpid())
	require.NoError(t, os.Mkdir(dir, 0o755))
	return dir, func() { require.NoError(t, os.Remove(dir)) }
}

func leaveFile(t *testing.T, dir string) (string, func()) {
	path := filepath.Join(dir, "left")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	return path, func() { require.NoError(t, os.Remove(path)) }
}

// Links and tables belong to a network namespace: the test has one, on a thread that ends with it.
func TestKindsOfNetwork(t *testing.T) {
	Root(t)
	for _, c := range []struct {
		kind, what string
		command    []string
	}{
		{"network link", "leak0", []string{"ip", "link", "add", "leak0", "type", "bridge"}},
		{"nft table", "table inet leak", []string{"nft", "add", "table", "inet", "leak"}},
	} {
		t.Run(c.kind, func(t *testing.T) {
			got := make(chan string)
			onThread(func() {
				if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
					got <- err.Error()
					return
				}
				before, err := running.take(false)
				if err != nil {
					got <- err.Error()
					return
				}
				if out, err := exec.Command(c.command[0], c.command[1:]...).CombinedOutput(); err != nil {
					got <- fmt.Sprint(err, string(out))
					return
				}
				got <- found(running, before, c.kind, c.what)
			})
			require.Contains(t, <-got, c.what)
		})
	}
}

// A recorder is a test that only notes what it is told.
type recorder struct {
	testing.TB
	cleanup []func()
	failed  string
}

func (r *recorder) Helper()                           {}
func (r *recorder) Cleanup(f func())                  { r.cleanup = append(r.cleanup, f) }
func (r *recorder) Errorf(format string, args ...any) { r.failed = fmt.Sprintf(format, args...) }

func TestLeaks(t *testing.T) {
	for _, leaves := range []bool{false, true} {
		r := &recorder{TB: t}
		Leaks(r)
		if leaves {
			what, clean := leaveDescriptor(t)
			defer clean()
			r.cleanup[0]()
			require.Contains(t, r.failed, "descriptor: "+what)
			continue
		}
		time.AfterFunc(time.Second, func() {}) // a timer is no goroutine
		r.cleanup[0]()
		require.Empty(t, r.failed)
	}
}

// What is torn down a little later is no leak.
func TestLeaksWaits(t *testing.T) {
	r := &recorder{TB: t}
	Leaks(r)
	_, clean := leaveGoroutine(t)
	time.AfterFunc(500*time.Millisecond, clean)
	r.cleanup[0]()
	require.Empty(t, r.failed)
}

func TestParseStat(t *testing.T) {
	p, ok := parseStat(7, "7 (a) (b) S 3 7 7 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 12345 0")
	require.True(t, ok)
	require.Equal(t, proc{procID{7, "12345"}, 3, "a) (b", "S"}, p)
	_, ok = parseStat(7, "7 (kworker) S 2 0 0 0 -1 69238880 0 0 0 0 0 0 0 0 20 0 1 0 12345 0")
	require.False(t, ok)
	_, ok = parseStat(7, "7 (cut")
	require.False(t, ok)
}

func TestMayBeOurs(t *testing.T) {
	s := &scope{
		slices:  map[string]bool{"/c/system.slice": true, "/c/user.slice": true, "/c/sandbox": true},
		cgroups: []string{"/c/user.slice/me.service/"},
	}
	for path, want := range map[string]bool{
		"/c/new":                       true,
		"/c/new/below":                 true,
		"/c/sandbox/box":               true, // whoever made the directory above
		"/c/user.slice/me.service/x":   true,
		"/c/system.slice/cron.service": false,
		"/c/user.slice/other":          false,
	} {
		require.Equal(t, want, s.mayBeOurs("/c", path), path)
	}
}
