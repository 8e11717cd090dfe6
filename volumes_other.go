//go:build !linux

package sandbox

import (
	"context"
	"errors"
)

// Volumes needs Linux.
func (s *Store) Volumes(context.Context) ([]string, error) { return nil, errors.ErrUnsupported }

// RemoveVolume needs Linux.
func (s *Store) RemoveVolume(_ context.Context, name string) error {
	return &Error{Op: "remove volume", Path: name, Err: errors.ErrUnsupported}
}

func (s *Store) sweepVolumes(context.Context) error { return nil }
