package sandbox_test

import (
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
)

// nested plays "contained" inside a sandbox, and returns what that prints.
func nested(t *testing.T, sb *sandbox.Sandbox) string {
	exe, err := os.Open("/proc/self/exe")
	require.NoError(t, err)
	defer exe.Close()
	life, hold, err := os.Pipe() // descriptor 3 is the life line of a role
	require.NoError(t, err)
	defer hold.Close()
	defer life.Close()
	const prepare = "mkdir -p /tmp/rootfs/bin /tmp/rootfs/tmp && cp /bin/busybox /tmp/rootfs/bin/sh && cp /bin/busybox /tmp/rootfs/bin/cat && exec /proc/self/fd/4"
	var text strings.Builder
	_, err = sb.Run(t.Context(), &sandbox.Cmd{Args: []string{"sh", "-c", prepare}, ExtraFiles: []*os.File{life, exe}, Stdout: &text, Stderr: &text,
		Env: []string{roleEnv + "=contained", dirEnv + "=/tmp/store", "XDG_RUNTIME_DIR=/tmp", "HOME=/tmp"}})
	require.NoError(t, err)
	return text.String()
}

// With Nesting a program that uses this package makes sandboxes inside, over the userland that it sees and over a
// directory; without, it is told what is in the way.
func TestNesting(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		for _, profile := range []string{"", "docker", "off"} {
			sb := box(t, sandbox.Options{Security: sandbox.Security{Nesting: true, Seccomp: profile}})
			if got := nested(t, sb); unions() {
				require.Equal(t, "1\n1\n", got, "%q", profile)
			} else {
				require.Regexp(t, "^1\nunsupported: true ", got, "%q", profile)
			}
			r, err := sb.Run(t.Context(), sandbox.Command("true"))
			require.NoError(t, err)
			require.True(t, r.Applied.Nesting)
			require.Zero(t, r.Applied.Landlock)
			if profile != "off" {
				require.Contains(t, r.Applied.Seccomp, ", nesting sha256:")
			}
		}
		said := nested(t, box(t, sandbox.Options{}))
		require.Contains(t, said, "unsupported: true")

		sb := box(t, sandbox.Options{Security: sandbox.Security{Nesting: true, Seccomp: "strict"}})
		require.ErrorIs(t, sb.Prepare(t.Context()), fs.ErrInvalid)
	})
}
