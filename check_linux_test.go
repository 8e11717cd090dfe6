package sandbox_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// What a Report says is what a sandbox then does, as root and as a user; and a Check leaves nothing.
func TestCheck(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		t.Setenv("TMPDIR", t.TempDir())
		r := sandbox.Check(t.Context())
		require.NoError(t, r.Err())
		require.NotNil(t, r.Applied)
		left, err := os.ReadDir(os.Getenv("TMPDIR"))
		require.NoError(t, err)
		require.Empty(t, left)

		said := map[string]error{}
		for _, f := range r.Features {
			require.NotContains(t, said, f.Name)
			said[f.Name] = f.Err
			if f.Err != nil {
				require.ErrorIs(t, f.Err, errors.ErrUnsupported, f.Name)
				require.Contains(t, f.Err.Error(), "(", "%s: what to do about it", f.Name)
				require.Contains(t, r.String(), "no   "+f.Name+": ")
			} else {
				require.Contains(t, r.String(), "yes  "+f.Name+"\n")
			}
		}
		require.Equal(t, len(r.Features), strings.Count(r.String(), "\n"))
		sb := box(t, sandbox.Options{})
		for name, c := range map[string]sandbox.Cmd{
			"Cmd.User":      {User: "1"},
			"Cmd.Init":      {Init: true},
			"Limits.Memory": {Limits: sandbox.Limits{Memory: 64 << 20}},
			"Limits.PIDs":   {Limits: sandbox.Limits{PIDs: 16}},
		} {
			c.Args = []string{"true"}
			_, err := sb.Run(t.Context(), &c)
			require.Contains(t, said, name)
			require.Equal(t, said[name] == nil, err == nil, "%s: %v, but was told %v", name, err, said[name])
		}
	})
}

// Where there can be no store the Report says so, and of an ended context its cause.
func TestCheckInVain(t *testing.T) {
	leaks(t)
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "absent"))
	r := sandbox.Check(t.Context())
	require.ErrorIs(t, r.Err(), os.ErrNotExist)
	require.Nil(t, r.Applied)

	t.Setenv("TMPDIR", t.TempDir())
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	r = sandbox.Check(ctx)
	require.ErrorIs(t, r.Err(), cause)
}
