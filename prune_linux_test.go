//go:build linux

package sandbox_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/imagetest"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// The layers of an image stay as long as a sandbox has them mounted.
func TestPruneMounted(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		st := store(t)
		needsUnion(t)
		ref := imagetest.Registry(t) + "/busybox:1"
		imagetest.Push(t, ref, imagetest.Busybox(t))
		sb := box(t, sandbox.Options{Store: st, Image: ref})
		require.Equal(t, "1", shell(t, sb, "echo 1"))
		require.NoError(t, st.Images().Remove(t.Context(), ref))
		p, err := st.Images().Prune(t.Context())
		require.NoError(t, err)
		require.Zero(t, p.Layers)
		require.Equal(t, "2", shell(t, sb, "echo 2"))
		require.NoError(t, sb.Close())
		p, err = st.Images().Prune(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, p.Layers)
	})
}
