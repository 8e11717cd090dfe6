//go:build unix

package testenv

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ordinaryID is the user and group of AsUser: no name, no subordinate ids, owner of nothing.
const ordinaryID = 60001

// An account is who runs the test binary again.
type account struct {
	name     string
	uid, gid int
}

// Root skips the test where it isn't root's, with a text that .ci/skips lists. As root it never skips.
func Root(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("testenv: needs root")
	}
}

// AsUser makes the test one of an ordinary user. Called by root it runs the very test in a new process of the test
// binary as user 60001, without a name, groups or subordinate ids, with a home, an XDG_RUNTIME_DIR and an environment of
// its own, reports its result on t and returns true: the caller returns. Called by an ordinary user, so also in that
// process, it returns false: the test goes on.
//
//	if testenv.AsUser(t) {
//		return
//	}
func AsUser(t *testing.T) bool {
	t.Helper()
	if os.Getuid() != 0 {
		return false
	}
	rerun(t, account{"nobody-in-particular", ordinaryID, ordinaryID})
	return true
}

// RootAndUser runs f as the subtest "root", where we are root, and as "user" of an ordinary user. Programs that f gets
// from [Go] and [C] it gets in both.
func RootAndUser(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if os.Getuid() == 0 {
		t.Run("root", f)
	}
	t.Run("user", func(t *testing.T) {
		if !AsUser(t) {
			f(t)
		}
	})
}

// rerun runs the test t once more as the account, in a process of its own, and reports its result.
func rerun(t *testing.T, a account) {
	t.Helper()
	exe, env, err := prepare(t, a)
	if err != nil {
		t.Fatalf("testenv: as user %d: %v", a.uid, err)
	}
	dir, err := workingDir(t)
	if err != nil {
		t.Fatalf("testenv: as user %d: %v", a.uid, err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run="+pattern(t.Name()), "-test.v", "-test.count=1", "-test.timeout="+remaining(t).String())
	if testing.Short() {
		cmd.Args = append(cmd.Args, "-test.short")
	}
	cmd.Dir, cmd.Env = dir, env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}}
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	verdict(t, a, string(out), err)
}

// verdict gives t the result that the output tells. Exit 0 alone is not enough: a pattern that matched nothing has it.
func verdict(t *testing.T, a account, out string, err error) {
	t.Helper()
	result := regexp.MustCompile(`(?m)^ *--- (PASS|SKIP|FAIL): ` + regexp.QuoteMeta(t.Name()) + ` \(`)
	found := result.FindAllStringSubmatch(out, -1)
	switch {
	case err != nil:
		t.Errorf("as user %d: %v\n%s", a.uid, err, out)
	case len(found) != 1:
		t.Errorf("as user %d: the test has %d results, want 1\n%s", a.uid, len(found), out)
	case found[0][1] == "SKIP":
		t.Skipf("as user %d:\n%s", a.uid, out)
	case testing.Verbose():
		t.Logf("as user %d:\n%s", a.uid, out)
	}
}

// pattern matches the one test called name.
func pattern(name string) string {
	elems := strings.Split(name, "/")
	for i, e := range elems {
		elems[i] = "^" + regexp.QuoteMeta(e) + "$"
	}
	return strings.Join(elems, "/")
}

// remaining is the time that the test has, less some for us to tell what happened.
func remaining(t *testing.T) time.Duration {
	end, ok := t.Deadline()
	if !ok {
		return 0 // none
	}
	return max(time.Until(end)-5*time.Second, time.Second).Round(time.Second)
}

// prepare copies the test binary to where the user can reach it (go test keeps it in a directory of its own user's) and
// makes the user's directories; it returns the copy and the environment.
func prepare(t *testing.T, a account) (exe string, env []string, err error) {
	t.Helper()
	made.Lock()
	defer made.Unlock()
	base, err := publicDir(t)
	if err != nil {
		return "", nil, err
	}
	exe = filepath.Join(base, "tests")
	if err := copyOnce(exe); err != nil {
		return "", nil, err
	}
	home, runtime := filepath.Join(base, a.name), filepath.Join(base, a.name+".run")
	for _, dir := range []string{home, runtime} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", nil, err
		}
		if err := os.Chown(dir, a.uid, a.gid); err != nil {
			return "", nil, err
		}
	}
	programs := inherited()
	if programs == nil {
		programs = map[string]string{}
	}
	maps.Copy(programs, made.programs)
	built, err := json.Marshal(programs)
	return exe, []string{
		"HOME=" + home, "XDG_RUNTIME_DIR=" + runtime, "USER=" + a.name, "LOGNAME=" + a.name, "LANG=C.UTF-8",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"GOTRACEBACK=" + os.Getenv("GOTRACEBACK"), markEnv + "=" + os.Getenv(markEnv), builtEnv + "=" + string(built),
	}, err
}

func copyOnce(dst string) error {
	if _, err := os.Stat(dst); err == nil {
		return nil
	}
	src, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := os.WriteFile(dst, src, 0o755); err != nil {
		return err
	}
	return os.Chmod(dst, 0o755) // whatever the umask
}

// workingDir is the package's directory or, when others can't reach that (a clone below /root), one with a copy of
// its testdata.
func workingDir(t *testing.T) (string, error) {
	wd, err := os.Getwd()
	if err != nil || reachable(wd) {
		return wd, err
	}
	dir := t.TempDir() // DIR/TestName…/001, both closed to others
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755)); err != nil {
		return "", err
	}
	if _, err := os.Stat("testdata"); err != nil {
		return dir, nil
	}
	return dir, os.CopyFS(filepath.Join(dir, "testdata"), os.DirFS("testdata"))
}

// reachable reports whether everyone may enter and read the directory.
func reachable(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		st, err := os.Stat(dir)
		if err != nil || st.Mode()&0o005 != 0o005 {
			return false
		}
		if dir == "/" {
			return true
		}
	}
}
