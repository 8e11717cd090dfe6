//go:build !linux

package image

import (
	"context"
	"errors"
	"io"
)

// Store is a directory with images and their unpacked layers. It needs Linux.
type Store struct{}

// Open returns errors.ErrUnsupported: unpacking needs Linux.
func Open(dir string) (*Store, error) {
	return nil, &Error{Op: "open", Object: dir, Err: errors.ErrUnsupported}
}

// Pull needs Linux.
func (*Store) Pull(_ context.Context, ref string, _ PullOptions) (*Image, error) {
	return nil, &Error{Op: "pull", Object: ref, Err: errors.ErrUnsupported}
}

// Image needs Linux.
func (*Store) Image(_ context.Context, ref string) (*Image, error) {
	return nil, &Error{Op: "image", Object: ref, Err: errors.ErrUnsupported}
}

// Images needs Linux.
func (*Store) Images(context.Context) ([]*Image, error) { return nil, errors.ErrUnsupported }

// Remove needs Linux.
func (*Store) Remove(_ context.Context, ref string) error {
	return &Error{Op: "remove", Object: ref, Err: errors.ErrUnsupported}
}

// Hold needs Linux.
func (*Store) Hold(_ context.Context, img *Image) (release func(), err error) {
	return nil, &Error{Op: "hold", Object: img.Ref, Err: errors.ErrUnsupported}
}

// Pruned is what a Prune removed.
type Pruned struct {
	Layers int   // unpacked layers
	Bytes  int64 // of the files of those
	Blobs  int   // manifests, indexes, configurations and compressed layers
}

// Prune needs Linux.
func (*Store) Prune(context.Context) (Pruned, error) { return Pruned{}, errors.ErrUnsupported }

// Commit needs Linux.
func (*Store) Commit(_ context.Context, ref string, _ CommitOptions) (*Image, error) {
	return nil, &Error{Op: "commit", Object: ref, Err: errors.ErrUnsupported}
}

// Tag needs Linux.
func (*Store) Tag(_ context.Context, ref, _ string) error {
	return &Error{Op: "tag", Object: ref, Err: errors.ErrUnsupported}
}

// Push needs Linux.
func (*Store) Push(_ context.Context, _, to string, _ PushOptions) error {
	return &Error{Op: "push", Object: to, Err: errors.ErrUnsupported}
}

// Save needs Linux.
func (*Store) Save(_ context.Context, ref string, _ io.Writer) error {
	return &Error{Op: "save", Object: ref, Err: errors.ErrUnsupported}
}

// Usage needs Linux.
func (*Store) Usage(context.Context) ([]Used, error) { return nil, errors.ErrUnsupported }
