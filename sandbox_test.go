//go:build linux

package sandbox_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

func TestHello(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{Name: "hello"})
		out, err := sb.Output(t.Context(), sandbox.Command("sh", "-c", "echo $$; hostname; id -u; pwd"))
		require.NoError(t, err)
		require.Equal(t, []string{"1", "hello", "0", "/"}, strings.Fields(string(out)))
	})
}
