//go:build !linux

package store

import (
	"context"
	"errors"
)

// Elsewhere Open is an error, so nothing below is ever called with a store: this is what keeps programs compiling
// that use the package on Linux only.
const supported = false

type descriptor int

type lockKind int

const shared, exclusive lockKind = 0, 1

func createNew(string) (descriptor, error)    { return -1, errors.ErrUnsupported }
func openRead(string) (descriptor, error)     { return -1, errors.ErrUnsupported }
func openLockable(string) (descriptor, error) { return -1, errors.ErrUnsupported }
func openDir(string) (descriptor, error)      { return -1, errors.ErrUnsupported }

func (descriptor) close() error                         { return errors.ErrUnsupported }
func (descriptor) write([]byte) error                   { return errors.ErrUnsupported }
func (descriptor) read([]byte) ([]byte, error)          { return nil, errors.ErrUnsupported }
func (descriptor) tryLock(lockKind) (bool, error)       { return false, errors.ErrUnsupported }
func (descriptor) lock(context.Context, lockKind) error { return errors.ErrUnsupported }
func (descriptor) isAt(string) (bool, error)            { return false, errors.ErrUnsupported }

func unlink(string) error            { return errors.ErrUnsupported }
func rmdir(string) error             { return errors.ErrUnsupported }
func replace(string, string) error   { return errors.ErrUnsupported }
func renameNew(string, string) error { return errors.ErrUnsupported }
func checkDir(string, int) error     { return errors.ErrUnsupported }
func privateDir(string, int) error   { return errors.ErrUnsupported }
func oddFile(error) bool             { return false }
func onTmpfs(string) bool            { return false }
