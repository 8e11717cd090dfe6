//go:build !linux

package sandbox

import "os"

func (*process) resize(uint16, uint16) error { return unsupported() }

func readNow(*os.File, []byte) (int, error) { return 0, unsupported() }

// Files are read for terminals on Linux only.
type typed struct{}

func newTyped(*os.File) (*typed, error) { return nil, unsupported() }

func (*typed) Read([]byte) (int, error) { return 0, unsupported() }
func (*typed) end()                     {}
func (*typed) Close() error             { return nil }
