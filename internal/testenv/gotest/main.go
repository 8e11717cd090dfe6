// Command gotest runs `go test -json`, prints what `go test` prints, and fails also when a test skipped that may not.
//
//	go run ./internal/testenv/gotest -skips .ci/skips -- -timeout 15m ./...
//
// The file of skips has a line for each kind of skip that is expected, in three columns split by tabs: where (root or
// user), a regexp for IMPORTPATH.Test, and a regexp for what the test printed. Empty lines and lines with # are left out.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

func main() {
	skips := flag.String("skips", "", "the `file` of tests that may skip")
	summary := flag.String("summary", "", "write go test's result lines into this `file` too")
	flag.Parse()
	os.Exit(run(*skips, *summary, flag.Args()))
}

func run(skips, summary string, args []string) int {
	mode := "user"
	if os.Getuid() == 0 {
		mode = "root"
	}
	allowed, err := readSkips(skips, mode)
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		return 2
	}
	r := newReport(os.Stdout)
	status := goTest(r, args)
	if status != nil {
		fmt.Fprintln(os.Stdout, "gotest: go test:", status)
	}
	good := r.finish(mode, allowed) && status == nil
	if summary != "" {
		if err := os.WriteFile(summary, []byte(strings.Join(r.lines, "")), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "gotest:", err)
			return 2
		}
	}
	if !good {
		return 1
	}
	return 0
}

// goTest runs go test and feeds its events to the report.
func goTest(r *results, args []string) error {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	return errors.Join(readEvents(out, r), cmd.Wait())
}

func readEvents(in io.Reader, r *results) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(r.out, "%s", line) // what isn't an event comes from the go command
			} else {
				r.add(e)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
