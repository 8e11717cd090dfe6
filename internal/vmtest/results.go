//go:build linux

package vmtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-5a9fb6e0/sandbox/internal/vmtest/plan"
)

// outputOf cuts what a program wrote out of a guest's results, and says how it ended: "" when it did not.
func outputOf(results []byte, p plan.Program) (out []byte, end string) {
	_, rest, ok := bytes.Cut(results, []byte("\n"+p.Begin()+"\n"))
	if !ok {
		return nil, ""
	}
	prefix := strings.TrimSuffix(p.End(nil), "<nil>")
	out, rest, ok = bytes.Cut(rest, []byte("\n"+prefix))
	if !ok {
		return out, ""
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	return out, string(line)
}

// A result is what became of a test, or of a test binary as a whole.
type result struct {
	name   string // the last element
	action string // pass, fail, skip; "" when it had no end
	output strings.Builder
	below  []*result
}

// parse reads what a test binary wrote that ran with -test.v=test2json.
func parse(output []byte) (*result, error) {
	cmd := exec.Command("go", "tool", "test2json")
	cmd.Stdin = bytes.NewReader(output)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("go tool test2json: %w: %s", err, &stderr)
	}
	top := &result{}
	for d := json.NewDecoder(&stdout); ; {
		var e struct{ Action, Test, Output string }
		if err := d.Decode(&e); err == io.EOF {
			return top, nil
		} else if err != nil {
			return nil, fmt.Errorf("go tool test2json: %w", err)
		}
		r := top
		if e.Test != "" {
			r = top.find(strings.Split(e.Test, "/"))
		}
		switch e.Action {
		case "output":
			r.output.WriteString(e.Output)
		case "pass", "fail", "skip":
			r.action = e.Action
		}
	}
}

// find returns the result below r with that path; a new one when there is none.
func (r *result) find(path []string) *result {
	if len(path) == 0 {
		return r
	}
	for _, b := range r.below {
		if b.name == path[0] {
			return b.find(path[1:])
		}
	}
	r.below = append(r.below, &result{name: path[0]})
	return r.below[len(r.below)-1].find(path[1:])
}

// replay gives t the results of a test binary that wrote out and ended so. skips matches what tests may skip for, nil:
// nothing.
func replay(t *testing.T, out []byte, end string, skips *regexp.Regexp) {
	t.Helper()
	r, err := parse(out)
	if err != nil {
		t.Fatal(err)
	}
	r.replay(t, skips)
	if n := r.count(); n == 0 || end != "<nil>" {
		t.Errorf("the test binary ran %d tests and ended so: %q", n, end)
	}
}

// replay gives t the result r, with those below as subtests. A skip that is not expected is a failure: a guest is made for
// its tests, and those that can't run there are left out by name.
func (r *result) replay(t *testing.T, skips *regexp.Regexp) {
	for _, b := range r.below {
		t.Run(b.name, func(t *testing.T) { b.replay(t, skips) })
	}
	if fault := r.fault(skips); fault != "" {
		t.Error(fault)
	}
	if r.action == "skip" {
		t.Skip(&r.output)
	}
}

// fault is why r is not good; "" when it is.
func (r *result) fault(skips *regexp.Regexp) string {
	switch r.action {
	case "pass":
		return ""
	case "skip":
		if skips != nil && skips.MatchString(r.output.String()) {
			return ""
		}
		return "skipped in the guest:\n" + r.output.String()
	case "fail":
		return "failed in the guest:\n" + r.output.String()
	}
	return "no result, the guest or its test binary ended before:\n" + r.output.String()
}

// count is the number of tests at the leaves.
func (r *result) count() int {
	n := 0
	for _, b := range r.below {
		n += max(1, b.count())
	}
	return n
}
