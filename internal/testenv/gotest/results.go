package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// An event is a line of `go test -json` (go doc test2json).
type event struct {
	Action, Package, Test, Output string
}

// A skip is a test that skipped, and what it printed.
type skip struct{ name, text string }

// results collects the events and prints, as they come, what `go test` without -v does.
type results struct {
	out            io.Writer
	tests          map[string]*strings.Builder // the output of tests that have no result yet, by package and name
	lines          []string                    // the result lines: ok, FAIL, --- FAIL, --- SKIP
	skipped        []skip
	passed, failed int
	packages       map[string]bool
}

func newReport(out io.Writer) *results {
	return &results{out: out, tests: map[string]*strings.Builder{}, packages: map[string]bool{}}
}

func (r *results) add(e event) {
	switch {
	case e.Action == "build-output":
		fmt.Fprint(r.out, e.Output)
	case e.Test == "":
		r.addPackage(e)
	default:
		r.addTest(e)
	}
}

func (r *results) addPackage(e event) {
	switch e.Action {
	case "start":
		r.packages[e.Package] = true
	case "output":
		if e.Output != "PASS\n" {
			r.print(e.Output)
		}
	case "fail":
		// A test without a result was running when the process ended: a panic, a time-out, an exit.
		for _, name := range slices.Sorted(maps.Keys(r.tests)) {
			if strings.HasPrefix(name, e.Package+".") {
				fmt.Fprintf(r.out, "--- no result: %s\n%s", name, r.tests[name])
				delete(r.tests, name)
			}
		}
	}
}

func (r *results) addTest(e event) {
	name := e.Package + "." + e.Test
	switch e.Action {
	case "run":
		r.tests[name] = &strings.Builder{}
	case "output":
		if b := r.tests[name]; b != nil && !strings.HasPrefix(strings.TrimSpace(e.Output), "=== ") {
			b.WriteString(e.Output)
		}
	case "pass", "fail", "skip":
		r.end(e.Action, name)
	}
}

// end prints the output of a test that failed or skipped, and forgets it.
func (r *results) end(action, name string) {
	var text string
	if b := r.tests[name]; b != nil {
		text = b.String()
		delete(r.tests, name)
	}
	switch action {
	case "pass":
		r.passed++
		return
	case "fail":
		r.failed++
	case "skip":
		r.skipped = append(r.skipped, skip{name, text})
	}
	for line := range strings.Lines(text) {
		r.print(line)
	}
}

// print shows a line, and keeps it when it is one of go test's results.
func (r *results) print(line string) {
	fmt.Fprint(r.out, line)
	for _, p := range []string{"ok ", "FAIL", "--- FAIL", "--- SKIP"} {
		if strings.HasPrefix(strings.TrimSpace(line), p) {
			r.lines = append(r.lines, line)
			return
		}
	}
}

// finish prints the totals and the skips that are not allowed, and reports whether all is well.
func (r *results) finish(mode string, allowed []*allowance) bool {
	bad := 0
	for _, s := range r.skipped {
		if !slices.ContainsFunc(allowed, func(a *allowance) bool { return a.covers(s) }) {
			bad++
			fmt.Fprintf(r.out, "gotest: %s skipped as %s, which the list of skips doesn't allow\n", s.name, mode)
		}
	}
	for _, a := range allowed {
		if !a.used {
			fmt.Fprintf(r.out, "gotest: line %d of the list of skips was not needed\n", a.line)
		}
	}
	total := fmt.Sprintf("gotest: as %s: %d tests passed, %d failed, %d skipped (%d of them not allowed), %d packages\n",
		mode, r.passed, r.failed, len(r.skipped), bad, len(r.packages))
	fmt.Fprint(r.out, total)
	r.lines = append(r.lines, total)
	return bad == 0 && r.failed == 0
}
