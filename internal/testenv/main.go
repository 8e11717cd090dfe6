//go:build unix

package testenv

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"
)

// exitLeak is the exit code of a test binary whose tests passed and left something behind.
const exitLeak = 99

// aloneTime is how long a package waits for other test runs to end before what it found is called its own.
const aloneTime = 2 * time.Minute

// Options is what a package expects to be left. The zero value: nothing.
type Options struct {
	// Dirs are directories, a store's for example, in which no new file may be left. One that isn't there is empty.
	Dirs []string
	// Goroutines are those that the package keeps for the life of the program, each by a function on its stack:
	// "internal/spawn.(*spawner).loop". Its package doc says why.
	Goroutines []string
	// Release runs after the tests and before the comparison: it gives back what the package keeps for the life of the
	// program.
	Release func()

	settle time.Duration // for this package's own tests; 0: settleTime
}

// running is what Main knows; nil in a test binary without it.
var running *scope

// atExit runs in reverse order after the tests.
var atExit []func() error

// Main runs the tests of a package and exits the program: with 99 when they passed and left a mount, cgroup, network
// link, nft table, namespace, process, descriptor, goroutine or file behind, which it lists on standard error. In a
// program started by a test (AsUser, or a re-executed test binary that has the test's environment) only that program's
// own things are compared.
func Main(m *testing.M, o ...Options) {
	os.Exit(run(m.Run, append(o, Options{})[0]))
}

func run(tests func() int, o Options) int {
	s, err := newScope(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		return 1
	}
	before, err := s.take(s.nested)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		return 1
	}
	running = s
	code := tests()
	if o.Release != nil {
		o.Release()
	}
	for _, f := range slices.Backward(atExit) {
		if err := f(); err != nil {
			fmt.Fprintln(os.Stderr, "testenv:", err)
			code = max(code, 1)
		}
	}
	if leaks := s.finish(before); len(leaks) > 0 {
		fmt.Fprintf(os.Stderr, "testenv: the tests of this package left behind:\n%s", report(leaks))
		if code == 0 {
			code = exitLeak
		}
	}
	return code
}

// finish compares at the end of a package; what may be another test run's is compared again when those have ended.
func (s *scope) finish(before snapshot) []leak {
	leaks := s.settle(before, s.nested, s.options.settle)
	if !machineWide(leaks) {
		return leaks
	}
	if !waitAlone(s.lock, aloneTime) {
		return append(leaks, leak{kind: "note", what: fmt.Sprintf("other test runs are still active (processes %v); some of this may be theirs",
			slices.Collect(maps.Keys(lockHolders(s.lock))))})
	}
	return s.settle(before, false, s.options.settle)
}

// Leaks fails the test when at its end something is there that was not there when Leaks was called: the list is that of
// [Main]. The kernel gets some seconds to finish what it tears down later. Functions registered by t.Cleanup after Leaks
// run before the comparison. Not for tests that run in parallel with others of their package. What may be another test
// run's is left to Main, when another one is active.
func Leaks(t testing.TB) {
	t.Helper()
	s := inMain(t)
	before, err := s.take(s.nested)
	if err != nil {
		t.Fatalf("testenv: %v", err)
	}
	t.Cleanup(func() {
		leaks := s.settle(before, s.nested, s.options.settle)
		if len(lockHolders(s.lock)) > 0 {
			leaks = slices.DeleteFunc(leaks, func(l leak) bool { return !l.own })
		}
		if len(leaks) > 0 {
			t.Errorf("testenv: this test left behind:\n%s", report(leaks))
		}
	})
}

// inMain returns what Main knows; a test binary without Main has nobody who cleans up.
func inMain(t testing.TB) *scope {
	t.Helper()
	if running == nil {
		t.Fatal("testenv: the package has no func TestMain(m *testing.M) { testenv.Main(m) }")
	}
	return running
}
