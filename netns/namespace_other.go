//go:build !linux

package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
)

// A Namespace is a network namespace that sockets can be opened in. There are
// none on this system: every function is errors.ErrUnsupported.
type Namespace struct{}

func unsupported() error {
	return fmt.Errorf("network namespaces on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

// New returns errors.ErrUnsupported.
func New(context.Context) (*Namespace, error) { return nil, unsupported() }

// Open returns errors.ErrUnsupported.
func Open(_, _ *os.File) (*Namespace, error) { return nil, unsupported() }

// Own returns a Namespace whose methods return errors.ErrUnsupported.
func Own() *Namespace { return &Namespace{} }

// Close does nothing.
func (*Namespace) Close() error { return nil }

// Dial returns errors.ErrUnsupported.
func (*Namespace) Dial(context.Context, string, string) (net.Conn, error) { return nil, unsupported() }

// Listen returns errors.ErrUnsupported.
func (*Namespace) Listen(context.Context, string, string) (net.Listener, error) {
	return nil, unsupported()
}
