package sandboxtest

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"unicode"

	"github.com/seed-5a9fb6e0/sandbox"
)

// keepSize is how much of a command's output is kept, and lineSize how long a line may be before it counts as two.
const (
	keepSize = 64 << 10
	lineSize = 64 << 10
)

// An output keeps the end of what a command writes, to both streams in the order of its writes, and looks for lines as
// they come: they may be gone from the end before a probe asks.
type output struct {
	mu      sync.Mutex
	kept    []byte // up to twice keepSize, so that a byte is moved once
	total   int64
	watches []*watch
}

// A watch waits for a line.
type watch struct {
	re    *regexp.Regexp
	found chan struct{} // closed when there was one
}

func (o *output) watch(re *regexp.Regexp) *watch {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := &watch{re, make(chan struct{})}
	o.watches = append(o.watches, w)
	return w
}

// A stream is what a command has in place of a Writer of the caller's, to whom it passes everything on.
type stream struct {
	all  *output
	line []byte    // the last one as far as it has come, guarded by all.mu
	to   io.Writer // may be nil
}

// attach has the streams of c that are not its caller's pipes write to the output. Writers that are one stay one: so
// does their pipe, which keeps the order.
func (o *output) attach(c *sandbox.Cmd) {
	one := c.Pipes&(sandbox.PipeStdout|sandbox.PipeStderr) == 0 && same(c.Stdout, c.Stderr)
	if c.Pipes&sandbox.PipeStdout == 0 {
		c.Stdout = &stream{all: o, to: c.Stdout}
	}
	switch {
	case one:
		c.Stderr = c.Stdout
	case c.Pipes&sandbox.PipeStderr == 0:
		c.Stderr = &stream{all: o, to: c.Stderr}
	}
}

// same is package sandbox's rule, and true of no Writers at all.
func same(a, b io.Writer) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return reflect.ValueOf(a).Comparable() && reflect.ValueOf(b).Comparable() && a == b
}

// Write keeps b, looks for lines in it and passes it on.
func (s *stream) Write(b []byte) (int, error) {
	s.keep(b)
	if s.to == nil {
		return len(b), nil
	}
	return s.to.Write(b) // without the lock: it may block
}

func (s *stream) keep(b []byte) {
	o := s.all
	o.mu.Lock()
	defer o.mu.Unlock()
	o.total += int64(len(b))
	o.kept = append(o.kept, b...)
	if over := len(o.kept) - keepSize; over > keepSize {
		o.kept = o.kept[:copy(o.kept, o.kept[over:])]
	}
	for len(o.watches) > 0 && len(b) > 0 { // who needs no lines gets none
		line, rest, ended := bytes.Cut(b, []byte("\n"))
		if room := lineSize - len(s.line); len(line) > room {
			line, rest, ended = b[:room], b[room:], true
		}
		s.line, b = append(s.line, line...), rest
		if ended {
			o.look(bytes.TrimSuffix(s.line, []byte("\r")))
			s.line = s.line[:0]
		}
	}
}

// look tells those who wait for such a line. The caller has the lock.
func (o *output) look(line []byte) {
	rest := o.watches[:0]
	for _, w := range o.watches {
		if w.re.Match(line) {
			close(w.found)
		} else {
			rest = append(rest, w)
		}
	}
	o.watches = rest
}

// String is what the log of a test gets. Each line has a mark in front, and nothing in it moves the cursor: a hostile
// command's "--- PASS" is no line of go test's.
func (o *output) String() string {
	o.mu.Lock()
	kept := string(o.kept[max(0, len(o.kept)-keepSize):])
	before := o.total - int64(len(kept))
	o.mu.Unlock()
	if kept == "" {
		return "no output"
	}
	what := "output"
	if before > 0 {
		what = fmt.Sprintf("output, without the %d bytes before", before)
	}
	return what + ":\n\t| " + strings.ReplaceAll(printable(strings.TrimSuffix(kept, "\n")), "\n", "\n\t| ")
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t', unicode.IsPrint(r):
			return r
		case r == '\r':
			return -1
		}
		return unicode.ReplacementChar
	}, s)
}
