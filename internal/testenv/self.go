//go:build unix

package testenv

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Threads is the number of threads of the test process. Go keeps a thread that it made, so no test can ask for the same
// number as before; one that works hard can ask for a bound.
func Threads() int {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return 0
	}
	return len(tasks)
}

// The goroutines that the runtime and the standard library start once and keep.
var keptGoroutines = []string{
	"os/signal.signal_recv",
	"os/signal.loop",
	"runtime.ensureSigM",
	"runtime.ReadTrace",
	"created by testing.(*T).Run ", // another test
	"created by testing.(*B).",
}

// goroutines lists all but the caller's, by number, with their stacks.
func goroutines(s *scope) (map[string]string, error) {
	kept := slices.Concat(keptGoroutines, s.options.Goroutines)
	found := map[string]string{}
	for _, stack := range stacks()[1:] {
		if slices.ContainsFunc(kept, func(f string) bool { return strings.Contains(stack, f) }) {
			continue
		}
		id, _, _ := strings.Cut(strings.TrimPrefix(stack, "goroutine "), " ")
		found[id] = stack
	}
	return found, nil
}

// stacks returns one text for each goroutine, the caller's first.
func stacks() []string {
	for size := 64 << 10; ; size *= 2 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size {
			return strings.Split(strings.TrimSpace(string(buf[:n])), "\n\n")
		}
	}
}

// descriptors lists the open descriptors, each with what it refers to.
func descriptors(*scope) (map[string]string, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // the one that listed them, or one closed meanwhile
		}
		if err != nil {
			return nil, err
		}
		what := fmt.Sprintf("%s -> %s", e.Name(), target)
		found[what] = what
	}
	return found, nil
}

// threadNamespaces lists the namespaces in which a thread of this process is: one that moved must come back or end.
func threadNamespaces(*scope) (map[string]string, error) {
	paths, err := filepath.Glob("/proc/self/task/*/ns/*")
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, path := range paths {
		ns, err := os.Readlink(path)
		if err != nil {
			continue // the thread ended
		}
		found[ns] = fmt.Sprintf("%s (thread %s)", ns, filepath.Base(filepath.Dir(filepath.Dir(path))))
	}
	return found, nil
}
