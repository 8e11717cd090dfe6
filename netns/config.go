package netns

import (
	"fmt"
	"io/fs"
)

// Mode says what network a sandbox has.
type Mode int

const (
	// None is a network namespace with only lo, which is up: the zero value.
	None Mode = iota
	// Host is the network of the embedding program. Nothing of it is held back:
	// a command can reach all that the embedder can, its abstract unix sockets
	// included.
	Host
)

// String returns the mode's name in lower case.
func (m Mode) String() string {
	switch m {
	case None:
		return "none"
	case Host:
		return "host"
	}
	return fmt.Sprintf("Mode(%d)", int(m))
}

// Config says what network a sandbox gets. The zero value is None.
type Config struct {
	// Mode is None or Host.
	Mode Mode
}

// Validate returns an error that is fs.ErrInvalid and names the field, nil for
// a good Config.
func (c Config) Validate() error {
	if c.Mode != None && c.Mode != Host {
		return fmt.Errorf("Mode: %v: %w", c.Mode, fs.ErrInvalid)
	}
	return nil
}
