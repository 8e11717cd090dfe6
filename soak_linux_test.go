//go:build soak

package sandbox_test

import (
	"testing"
	"time"
)

func TestSoakTwoProgramsOneStore(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) { twoPrograms(t, 30*time.Second) })
}
