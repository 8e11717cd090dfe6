package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// An allowance is a line of the list of skips.
type allowance struct {
	line       int
	name, text *regexp.Regexp
	used       bool
}

func (a *allowance) covers(s skip) bool {
	ok := a.name.MatchString(s.name) && a.text.MatchString(s.text)
	a.used = a.used || ok
	return ok
}

// readSkips returns the lines of the list for a mode. Without a file nothing may skip.
func readSkips(path, mode string) ([]*allowance, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseSkips(string(text), mode)
}

func parseSkips(text, mode string) ([]*allowance, error) {
	var list []*allowance
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != 3 || (f[0] != "root" && f[0] != "user") {
			return nil, fmt.Errorf("line %d of the list of skips: %q: not root or user, a test and a text, split by tabs", n, line)
		}
		name, err := regexp.Compile(f[1])
		if err != nil {
			return nil, fmt.Errorf("line %d of the list of skips: %w", n, err)
		}
		reason, err := regexp.Compile(f[2])
		if err != nil {
			return nil, fmt.Errorf("line %d of the list of skips: %w", n, err)
		}
		if f[0] == mode {
			list = append(list, &allowance{line: n, name: name, text: reason})
		}
	}
	return list, nil
}
