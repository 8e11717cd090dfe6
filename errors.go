package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// ErrInUse says that somebody else holds what was asked for.
var ErrInUse = errors.New("in use")

// ErrReset is why a command was killed by Sandbox.Reset.
var ErrReset = errors.New("the sandbox was reset")

// Error says what a Sandbox, Process or Store tried in vain. The errors below
// it are the standard ones: fs.ErrNotExist, fs.ErrExist, fs.ErrInvalid,
// fs.ErrPermission, os.ErrClosed, exec.ErrNotFound, errors.ErrUnsupported, the
// kernel's errno, or the context's cause.
type Error struct {
	Op      string // what was asked for: "prepare", "start", "wait", "close", "dial", …
	Sandbox string // the sandbox's name, may be empty
	Stage   string // the step that failed, by its man page's name: "mount", "execve"; may be empty
	Path    string // the object of the step; may be empty
	Err     error  // why
}

// Error returns "op sandbox: stage path: why".
func (e *Error) Error() string {
	s := e.Op
	if e.Sandbox != "" {
		s += " sandbox " + e.Sandbox
	}
	if e.Stage != "" {
		s += ": " + e.Stage
		if e.Path != "" {
			s += fmt.Sprintf(" %q", e.Path)
		}
	}
	return s + ": " + e.Err.Error()
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// A FieldError is one fault of an Options or a Cmd. It is fs.ErrInvalid.
type FieldError struct {
	Field  string // "Options.Limits.Memory"
	Value  any    // what it was; nil where it may be a secret or is too long
	Reason string // what is wrong with it
}

// Error returns "field: value: reason".
func (e *FieldError) Error() string {
	switch v := e.Value.(type) {
	case nil:
		return e.Field + ": " + e.Reason
	case string:
		return fmt.Sprintf("%s: %q: %s", e.Field, v, e.Reason)
	}
	return fmt.Sprintf("%s: %v: %s", e.Field, e.Value, e.Reason)
}

// Unwrap returns fs.ErrInvalid.
func (e *FieldError) Unwrap() error { return fs.ErrInvalid }

// An ExitError is a command that ran and did not exit with 0.
type ExitError struct {
	*Result
	// Stderr is the end of what it wrote there, from Sandbox.Output only.
	Stderr []byte
}

// Error says how the command ended and, where known, its last words.
func (e *ExitError) Error() string {
	s := e.Result.String()
	if text := strings.TrimSpace(string(e.Stderr)); text != "" {
		s += fmt.Sprintf(": %q", text)
	}
	return s
}
