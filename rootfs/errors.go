package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
)

// Error is what the functions and methods of this package return: the operation, the object that it was about and the
// cause. errors.Is sees through it: the errno of the system call, fs.ErrNotExist, fs.ErrInvalid, errors.ErrUnsupported
// and the context's error.
type Error struct {
	Op   string // "overlay", "make upper", "attach", "remove" …
	Path string // the object; may be empty
	Err  error  // the cause, never nil
}

// Error is `op "path": cause`.
func (e *Error) Error() string {
	if e.Path == "" {
		return e.Op + ": " + e.Err.Error()
	}
	return fmt.Sprintf("%s %q: %v", e.Op, e.Path, e.Err)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// FieldError is one fault in an Overlay or a Mount. Several come joined (errors.Join), each an own FieldError.
type FieldError struct {
	Field string // the Go name: "Lower[3]", "Target"
	Value any    // what it was; nil where it may be secret or says nothing
	Err   error  // what is wrong with it; errors.Is finds fs.ErrInvalid, fs.ErrNotExist or errors.ErrUnsupported
}

// Error names the field.
func (e *FieldError) Error() string {
	switch v := e.Value.(type) {
	case nil:
		return fmt.Sprintf("%s: %v", e.Field, e.Err)
	case string:
		return fmt.Sprintf("%s: %q: %v", e.Field, shorten(v), e.Err)
	default:
		return fmt.Sprintf("%s: %v: %v", e.Field, v, e.Err)
	}
}

// Unwrap gives the cause.
func (e *FieldError) Unwrap() error { return e.Err }

// UnsupportedError says that something that was asked for can't be had here, and what would help. errors.Is finds
// errors.ErrUnsupported and, where the kernel was asked, its answer.
type UnsupportedError struct {
	What   string // "idmapped mount of …", "overlay mount"
	Remedy string // what to do about it, or what it needs
	Err    error  // the kernel's answer; nil when it wasn't asked
}

// Error is `what: cause (remedy)`.
func (e *UnsupportedError) Error() string {
	cause := "not supported"
	if e.Err != nil {
		cause = e.Err.Error()
	}
	return fmt.Sprintf("%s: %s (%s)", e.What, cause, e.Remedy)
}

// Unwrap returns errors.ErrUnsupported and the kernel's answer, if any.
func (e *UnsupportedError) Unwrap() []error {
	if e.Err == nil {
		return []error{errors.ErrUnsupported}
	}
	return []error{errors.ErrUnsupported, e.Err}
}

// ReadOnlyError says that a union mount with an upper layer came up, but can't be written: the file system of Upper
// lacks something that overlayfs needs there, and the kernel then mounts it read-only without an error
// (Documentation/filesystems/overlayfs.rst). Nothing is left mounted.
type ReadOnlyError struct {
	Upper string // its path, or "tmpfs"
	Err   error  // how a write was answered: EROFS or another errno
}

// Error names the upper layer.
func (e *ReadOnlyError) Error() string {
	return fmt.Sprintf("upper %q: the mount can't be written: %v", e.Upper, e.Err)
}

// Unwrap gives the kernel's answer.
func (e *ReadOnlyError) Unwrap() error { return e.Err }

// kindError is a text of ours that errors.Is takes for one of the standard sentinels.
type kindError struct {
	kind error
	text string
}

func (e *kindError) Error() string        { return e.text }
func (e *kindError) Is(target error) bool { return target == e.kind }

func invalidf(format string, a ...any) error {
	return &kindError{fs.ErrInvalid, fmt.Sprintf(format, a...)}
}

func unsupportedf(format string, a ...any) error {
	return &kindError{errors.ErrUnsupported, fmt.Sprintf(format, a...)}
}

// faults collects FieldErrors.
type faults []error

func (f *faults) add(field string, value any, err error) {
	*f = append(*f, &FieldError{field, value, err})
}

// join returns nil when there are none.
func (f faults) join() error { return errors.Join(f...) }

// shorten keeps an error text readable.
func shorten(s string) string {
	if len(s) > 512 {
		return s[:512] + "…"
	}
	return s
}
