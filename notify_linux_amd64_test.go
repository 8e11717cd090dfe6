package sandbox_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// No call goes behind the listener's back by another architecture's number, whatever the profile.
func TestNotifyForeign(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		for _, profile := range []string{"docker", "off"} {
			sb := notified(t, profile, nothing, "getpid")
			require.Equal(t, "SYS", inside(t, sb, "int80"), profile)
			require.Equal(t, "SYS", inside(t, sb, "x32"), profile)
		}
	})
}
