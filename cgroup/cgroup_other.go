//go:build !linux

package cgroup

import (
	"context"
	"errors"
	"iter"
)

var errLinux = &UnsupportedError{What: "v1 and v2", Err: errors.New("not a Linux kernel"), Remedy: "run on Linux"}

// Tree is one owner's part of the cgroup hierarchies; Linux only.
type Tree struct{}

// Group is a cgroup of a Tree; Linux only.
type Group struct{}

// Open returns errors.ErrUnsupported.
func Open(Options) (*Tree, error) { return nil, errLinux }

// Recover returns errors.ErrUnsupported.
func Recover(context.Context, string, string) error { return errLinux }

// Mode is empty.
func (*Tree) Mode() Mode { return "" }

// Available is the empty set.
func (*Tree) Available() Controllers { return 0 }

// New returns errors.ErrUnsupported.
func (*Tree) New(string, Limits) (*Group, error) { return nil, errLinux }

// Leaf returns errors.ErrUnsupported.
func (*Tree) Leaf(context.Context, Limits) (*Group, error) { return nil, errLinux }

// Flush does nothing.
func (*Tree) Flush(context.Context) error { return nil }

// Close does nothing.
func (*Tree) Close(context.Context) error { return nil }

// New returns errors.ErrUnsupported.
func (*Group) New(string, Limits) (*Group, error) { return nil, errLinux }

// Leaf returns errors.ErrUnsupported.
func (*Group) Leaf(context.Context, Limits) (*Group, error) { return nil, errLinux }

// Name is empty.
func (*Group) Name() string { return "" }

// Controllers is the empty set.
func (*Group) Controllers() Controllers { return 0 }

// Limits are none.
func (*Group) Limits() Limits { return Limits{} }

// Update returns errors.ErrUnsupported.
func (*Group) Update(Limits) error { return errLinux }

// Add returns errors.ErrUnsupported.
func (*Group) Add(int) error { return errLinux }

// Join returns errors.ErrUnsupported.
func (*Group) Join() (*Join, error) { return nil, errLinux }

// Usage returns errors.ErrUnsupported.
func (*Group) Usage() (Usage, error) { return Usage{}, errLinux }

// Events returns errors.ErrUnsupported.
func (*Group) Events() (Events, error) { return Events{}, errLinux }

// MemoryStat returns errors.ErrUnsupported.
func (*Group) MemoryStat() (MemoryStat, error) { return MemoryStat{}, errLinux }

// Pressure returns errors.ErrUnsupported.
func (*Group) Pressure() (Pressure, error) { return Pressure{}, errLinux }

// Watch yields errors.ErrUnsupported.
func (*Group) Watch(context.Context) iter.Seq2[Events, error] {
	return func(yield func(Events, error) bool) { yield(Events{}, errLinux) }
}

// Freeze returns errors.ErrUnsupported.
func (*Group) Freeze(context.Context) error { return errLinux }

// Thaw returns errors.ErrUnsupported.
func (*Group) Thaw(context.Context) error { return errLinux }

// Kill returns errors.ErrUnsupported.
func (*Group) Kill(context.Context) error { return errLinux }

// Remove returns errors.ErrUnsupported.
func (*Group) Remove(context.Context) error { return errLinux }

// Release does nothing.
func (*Group) Release() {}
