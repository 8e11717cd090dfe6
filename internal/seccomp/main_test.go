//go:build linux

package seccomp

import (
	"testing"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }
