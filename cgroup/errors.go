package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// UnsupportedError says that something that was asked for can't be had here, and what would help. errors.Is finds
// errors.ErrUnsupported and, where the kernel was asked, its answer (say fs.ErrPermission).
type UnsupportedError struct {
	What   string // "memory controller", "swap limit"
	Remedy string // what to do about it
	Err    error  // the kernel's answer; nil when it wasn't asked
}

// Error implements error.
func (e *UnsupportedError) Error() string {
	cause := "not available"
	if e.Err != nil {
		cause = e.Err.Error()
	}
	return fmt.Sprintf("cgroup %s: %s (%s)", e.What, cause, e.Remedy)
}

// Unwrap returns errors.ErrUnsupported and the kernel's answer, if any.
func (e *UnsupportedError) Unwrap() []error {
	if e.Err == nil {
		return []error{errors.ErrUnsupported}
	}
	return []error{errors.ErrUnsupported, e.Err}
}

// FieldError is one fault in an Options or a Limits. errors.Is finds fs.ErrInvalid.
type FieldError struct {
	Field  string // the Go name: "Memory"
	Value  any    // what it was
	Reason string // what is wrong with it
}

// Error implements error.
func (e *FieldError) Error() string {
	if s, ok := e.Value.(string); ok {
		return fmt.Sprintf("%s: %q: %s", e.Field, s, e.Reason)
	}
	return fmt.Sprintf("%s: %v: %s", e.Field, e.Value, e.Reason)
}

// Unwrap returns fs.ErrInvalid.
func (e *FieldError) Unwrap() error { return fs.ErrInvalid }

// InUseError says that an Update would have set a limit below what is in use and can't be reclaimed: nothing was changed
// and nobody was killed. errors.Is finds EBUSY.
type InUseError struct {
	Field string // the Go name: "Memory"; "Swap" for Memory and Swap together on v1
	Value int64  // what the limit would have been, in bytes
	Use   int64  // what is in use after reclaim, in bytes
}

// Error implements error.
func (e *InUseError) Error() string {
	return fmt.Sprintf("%s: %d: %d bytes are in use (end processes first, or choose more)", e.Field, e.Value, e.Use)
}

// Unwrap returns EBUSY.
func (e *InUseError) Unwrap() error { return syscall.EBUSY }
