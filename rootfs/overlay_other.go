//go:build !linux

package rootfs

import (
	"context"
	"os"
)

var errOther = &UnsupportedError{What: "union mounts and their layers", Remedy: "they need Linux"}

// Open returns errors.ErrUnsupported: it needs Linux.
func (o Overlay) Open(context.Context) (*os.File, error) {
	if err := o.check(); err != nil {
		return nil, &Error{"overlay", "", err}
	}
	return nil, &Error{"overlay", "", errOther}
}

// MakeUpper returns errors.ErrUnsupported: it needs Linux.
func (o Overlay) MakeUpper(context.Context) error { return &Error{"make upper", o.Upper, errOther} }

// OpenBind needs Linux.
func (m Mount) OpenBind(context.Context, *os.File) (*os.File, error) {
	return nil, &Error{"bind", m.Source, errOther}
}

// Attach returns errors.ErrUnsupported: it needs Linux.
func Attach(_ *os.File, path string) error { return &Error{"attach", path, errOther} }

// Detach returns errors.ErrUnsupported: it needs Linux.
func Detach(path string) error { return &Error{"detach", path, errOther} }

func removeTree(context.Context, string) error { return errOther }
