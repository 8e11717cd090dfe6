//go:build unix

package testenv

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// builtEnv hands the programs that were built to the test binary that runs as another user, who can't build any: the Go
// caches are root's.
const builtEnv = "SANDBOX_TESTENV_BUILT"

// made is what this process made for its tests: a directory that everyone may read, and the programs in it.
var made struct {
	sync.Mutex
	dir      string
	programs map[string]string // by what they were built from
}

// Go builds the main package pkg (a directory as "./testdata/hello", or an import path) as a static program without cgo
// and returns its path, which every user may execute. It is built once per test process and removed at its end. A test
// that uses AsUser calls Go before it.
func Go(t testing.TB, pkg string) string {
	t.Helper()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	key := "go " + pkg
	if strings.HasPrefix(pkg, ".") {
		key = "go " + filepath.Join(wd, pkg)
	}
	return build(t, key, func(out string) *exec.Cmd {
		cmd := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-o", out, pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		return cmd
	})
}

// C compiles a small C program with gcc -static and returns its path, as Go does: for hostile programs that must not
// have a runtime of their own. libs are linked to it: "-lseccomp".
func C(t testing.TB, src string, libs ...string) string {
	t.Helper()
	key := fmt.Sprintf("c %x %v", sha256.Sum256([]byte(src)), libs)
	return build(t, key, func(out string) *exec.Cmd {
		args := append([]string{"-static", "-O2", "-Wall", "-pthread", "-o", out, "-x", "c", "-", "-x", "none"}, libs...)
		cmd := exec.Command("gcc", args...)
		cmd.Stdin = strings.NewReader(src)
		return cmd
	})
}

func build(t testing.TB, key string, command func(out string) *exec.Cmd) string {
	t.Helper()
	made.Lock()
	defer made.Unlock()
	if path := made.programs[key]; path != "" {
		return path
	}
	if path := inherited()[key]; path != "" {
		return path
	}
	dir, err := publicDir(t)
	if err != nil {
		t.Fatalf("testenv: %v", err)
	}
	out := filepath.Join(dir, fmt.Sprintf("program%d", len(made.programs)))
	if text, err := command(out).CombinedOutput(); err != nil {
		t.Fatalf("testenv: build %s: %v%s\n%s", key, err, remedy(err), text)
	}
	if err := os.Chmod(out, 0o755); err != nil { // whatever the umask
		t.Fatalf("testenv: %v", err)
	}
	made.programs[key] = out
	return out
}

func remedy(err error) string {
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return " (gcc: apt-get install gcc libc6-dev, or bash scripts/deps)"
	case os.Getenv(builtEnv) != "":
		return " (call testenv.Go or testenv.C before testenv.AsUser: this user can't read root's Go caches)"
	}
	return ""
}

// inherited are the programs that the test process above built.
func inherited() map[string]string {
	var programs map[string]string
	if text := os.Getenv(builtEnv); text != "" {
		if err := json.Unmarshal([]byte(text), &programs); err != nil {
			panic(fmt.Sprintf("testenv: %s: %v", builtEnv, err))
		}
	}
	return programs
}

// publicDir returns the directory of this process that everyone may read; made is locked.
func publicDir(t testing.TB) (string, error) {
	t.Helper()
	inMain(t)
	if made.dir != "" {
		return made.dir, nil
	}
	dir, err := os.MkdirTemp("", "sandbox-test-")
	if err != nil {
		return "", err
	}
	atExit = append(atExit, func() error { return os.RemoveAll(dir) })
	made.dir, made.programs = dir, map[string]string{}
	return dir, os.Chmod(dir, 0o755)
}
