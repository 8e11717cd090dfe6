//go:build linux

package testenv

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if os.Getenv(tryEnv) != "" {
		Main(m, Options{settle: 100 * time.Millisecond}) // what it leaves on purpose doesn't go away
	}
	Main(m)
}

// tryEnv makes TestTry do in a re-executed test binary what must not happen in this one.
const tryEnv = "TESTENV_TRY"

// TestTry does nothing unless it runs in a process that another test, or AsUser, started.
func TestTry(t *testing.T) {
	if os.Getenv(tryEnv) == "" && os.Getenv(builtEnv) == "" {
		return
	}
	t.Run("clean", func(t *testing.T) { Leaks(t) })
	t.Run("descriptor", func(t *testing.T) {
		_, err := unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		require.NoError(t, err)
	})
	t.Run("goroutine", func(*testing.T) { go forever() })
	t.Run("mount", func(t *testing.T) {
		dir := os.Getenv("TESTENV_DIR")
		require.NoError(t, unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	})
	t.Run("clean as a user", func(t *testing.T) { AsUser(t) })
	t.Run("fails as a user", func(t *testing.T) {
		if !AsUser(t) {
			t.Fatal("on purpose, by", os.Getuid())
		}
	})
	t.Run("leaks as a user", func(t *testing.T) {
		if !AsUser(t) {
			go forever()
		}
	})
	t.Run("skips as a user", func(t *testing.T) {
		if !AsUser(t) {
			Root(t)
		}
	})
	t.Run("ends as a user", func(t *testing.T) {
		if !AsUser(t) {
			os.Exit(0)
		}
	})
}

func forever() { select {} }

// try runs one subtest of TestTry in a process of its own: nested in this one or, with a lock file of its own, as if it
// were the only test run on the machine.
func try(t *testing.T, name string, nested bool, env ...string) (code int, out string) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "/proc/self/exe", "-test.v", "-test.run="+pattern("TestTry/"+name))
	for _, v := range os.Environ() {
		if nested || !strings.HasPrefix(v, markEnv+"=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(append(cmd.Env, tryEnv+"=1"), env...)
	text, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}

func TestMainExitCode(t *testing.T) {
	Leaks(t)
	code, out := try(t, "clean", true)
	require.Equal(t, 0, code, out)
	for name, want := range map[string]string{"descriptor": "/dev/zero", "goroutine": "testenv.forever"} {
		code, out := try(t, name, true)
		require.Equal(t, exitLeak, code, out)
		require.Contains(t, out, "left behind")
		require.Contains(t, out, want)
	}
}

// The process that runs the test finds the mount: not its parent, and not only one of them.
func TestMainFindsMount(t *testing.T) {
	Root(t)
	Leaks(t)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, 0)) })
	code, out := try(t, "mount", false, "TESTENV_DIR="+dir, "TMPDIR="+t.TempDir())
	require.Equal(t, exitLeak, code, out)
	require.Contains(t, out, "mount: "+dir)
}

// What may be another run's is compared again when that has ended.
func TestMainWaitsForOthers(t *testing.T) {
	Root(t)
	Leaks(t)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	tmp := t.TempDir()
	other := exec.Command("flock", "--shared", filepath.Join(tmp, "sandbox-testenv.lock"), "sleep", "3")
	require.NoError(t, other.Start())
	done := make(chan error)
	go func() { // the other run removes its mount while the first one waits for it
		time.Sleep(2 * time.Second)
		done <- errors.Join(unix.Unmount(dir, 0), other.Wait())
	}()
	_, out := try(t, "mount", false, "TESTENV_DIR="+dir, "TMPDIR="+tmp)
	require.NoError(t, <-done)
	require.Contains(t, out, "--- PASS: TestTry/mount")
	require.NotContains(t, out, "mount: "+dir)
}

// Nothing of what was made for the tests is left in the temporary directory, but for the file of the lock.
func TestMainCleansUp(t *testing.T) {
	Root(t)
	Leaks(t)
	tmp := t.TempDir()
	require.NoError(t, os.Chmod(tmp, 0o755))
	require.NoError(t, os.Chmod(filepath.Dir(tmp), 0o755))
	_, out := try(t, "clean_as_a_user", false, "TMPDIR="+tmp)
	require.Contains(t, out, "\n    --- PASS: TestTry/clean_as_a_user")
	left, err := os.ReadDir(tmp)
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Equal(t, "sandbox-testenv.lock", left[0].Name())
}

func TestResultOfUser(t *testing.T) {
	Root(t)
	for _, c := range []struct {
		name string
		code int
		want []string
	}{
		{"fails as a user", 1, []string{"on purpose, by 60001", "--- FAIL: TestTry"}},
		{"leaks as a user", 1, []string{"exit status 99", "testenv.forever"}},
		{"skips as a user", 0, []string{"\n    --- SKIP: TestTry/skips_as_a_user", "testenv: needs root"}},
		{"ends as a user", 1, []string{"the test has 0 results, want 1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out := try(t, strings.ReplaceAll(c.name, " ", "_"), true)
			require.Equal(t, c.code, code, out)
			for _, want := range c.want {
				require.Contains(t, out, want)
			}
		})
	}
}

func TestAsUser(t *testing.T) {
	root := os.Getuid() == 0
	if AsUser(t) {
		return
	}
	require.False(t, root)
	if os.Getenv(builtEnv) == "" {
		return // this user's own session: his directories are his affair
	}
	home, err := os.UserHomeDir()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(home, "f"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "f"), nil, 0o600))
	_, err = os.Stat("testdata/hello/main.go")
	require.NoError(t, err, "the package's testdata")
	_, err = os.ReadFile("/etc/shadow")
	require.ErrorIs(t, err, fs.ErrPermission)
}

func TestAsUserEnvironment(t *testing.T) {
	const secret = "TESTENV_SECRET"
	if os.Getuid() == 0 {
		t.Setenv(secret, "x")
	}
	if AsUser(t) {
		return
	}
	require.Empty(t, os.Getenv(secret))
}

func TestAsSubIDUser(t *testing.T) {
	if AsSubIDUser(t) {
		return
	}
	require.NotZero(t, os.Getuid())
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Contains(t, string(text), os.Getenv("USER")+":", file)
	}
	out, err := exec.Command("unshare", "--user", "--map-auto", "--map-root-user", "cat", "/proc/self/uid_map").CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), " 65535", "newuidmap gave the range")
}

func TestRootAndUser(t *testing.T) {
	RootAndUser(t, func(t *testing.T) {
		Leaks(t)
		out, err := exec.Command(Go(t, "./testdata/hello")).CombinedOutput()
		require.NoError(t, err, string(out))
		require.Contains(t, string(out), "hello from")
		require.Equal(t, Go(t, "./testdata/hello"), Go(t, "./testdata/hello"))
		out, err = exec.Command(C(t, `int main(void) { return 42; }`)).CombinedOutput()
		require.ErrorContains(t, err, "exit status 42", string(out))
	})
}
