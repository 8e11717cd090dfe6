package image

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Error is what the functions and methods of this package return: the operation ("pull", "open", "remove" …),
// the object it was about (a reference or a path, never a secret) and the cause. errors.Is sees through it:
// fs.ErrNotExist (the registry, the archive or the store does not have it), fs.ErrPermission (the registry refused the
// credentials), fs.ErrInvalid (malformed input), errors.ErrUnsupported, the context's error, and the types below.
type Error struct {
	Op     string // "pull", "open", "remove" …
	Object string // a reference or a path
	Err    error  // why
}

// Error is `op "object": cause`.
func (e *Error) Error() string { return fmt.Sprintf("%s %q: %v", e.Op, e.Object, e.Err) }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// VerifyError says that bytes are not what the manifest or the configuration promised. Nothing of them is kept.
type VerifyError struct {
	Object    string // digest of the blob as the manifest has it
	What      string // "digest", "size" or "diff id"
	Want, Got string // the promised value and the real one
}

// Error names the object and both values.
func (e *VerifyError) Error() string {
	return fmt.Sprintf("blob %s: %s is %s, not %s", e.Object, e.What, e.Got, e.Want)
}

// LimitError says that a layer, a manifest or a configuration is larger than Limits or this package's constants allow.
type LimitError struct {
	What string // "entries", "bytes", "path depth", "manifest bytes" …
	Max  int64  // the limit
}

// Error names the limit.
func (e *LimitError) Error() string { return fmt.Sprintf("more than %d %s", e.Max, e.What) }

// PlatformError says that an image exists, but not for the platform that was asked for. It is an fs.ErrNotExist.
type PlatformError struct {
	Want string   // "os/arch[/variant]"
	Have []string // what there is, sorted as in the index
}

// Error lists what there is.
func (e *PlatformError) Error() string {
	have := "none"
	if len(e.Have) > 0 {
		have = strings.Join(e.Have, ", ")
	}
	return fmt.Sprintf("no image for platform %s; there is: %s", e.Want, have)
}

// Is makes a PlatformError an fs.ErrNotExist.
func (e *PlatformError) Is(target error) bool { return target == fs.ErrNotExist }

// EntryError says which entry of a layer could not be unpacked. An entry that no image may contain is an fs.ErrInvalid,
// else Err holds the errno.
type EntryError struct {
	Name string // as the archive has it
	Err  error  // why
}

// Error quotes the name, which is untrusted.
func (e *EntryError) Error() string { return fmt.Sprintf("entry %q: %v", shorten(e.Name), e.Err) }

// Unwrap gives the cause.
func (e *EntryError) Unwrap() error { return e.Err }

// kindError is a text of ours that errors.Is takes for one of the standard sentinels.
type kindError struct {
	kind error
	text string
	err  error // cause, or nil
}

func (e *kindError) Error() string {
	if e.err == nil {
		return e.text
	}
	return e.text + ": " + e.err.Error()
}

func (e *kindError) Is(target error) bool { return target == e.kind }
func (e *kindError) Unwrap() error        { return e.err }

func invalidf(format string, a ...any) error {
	return &kindError{kind: fs.ErrInvalid, text: fmt.Sprintf(format, a...)}
}

func missingf(format string, a ...any) error {
	return &kindError{kind: fs.ErrNotExist, text: fmt.Sprintf(format, a...)}
}

func unsupportedf(format string, a ...any) error {
	return &kindError{kind: errors.ErrUnsupported, text: fmt.Sprintf(format, a...)}
}

// shorten keeps an error text readable when an archive has a name of a megabyte.
func shorten(s string) string {
	if len(s) > 512 {
		return s[:512] + "…"
	}
	return s
}

// registryError gives the standard sentinel to what a registry answered.
func registryError(err error) error {
	var te *transport.Error
	if !errors.As(err, &te) {
		return err
	}
	kind := statusKind(te.StatusCode)
	for _, d := range te.Errors {
		switch d.Code {
		case transport.ManifestUnknownErrorCode, transport.NameUnknownErrorCode, transport.BlobUnknownErrorCode:
			kind = fs.ErrNotExist
		}
	}
	if kind == nil {
		return err
	}
	return &kindError{kind: kind, text: "registry", err: err}
}

func statusKind(code int) error {
	switch code {
	case http.StatusNotFound:
		return fs.ErrNotExist
	case http.StatusUnauthorized, http.StatusForbidden:
		return fs.ErrPermission
	}
	return nil
}
