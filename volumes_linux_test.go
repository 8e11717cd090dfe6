package sandbox_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/rootfs"
)

func volumeAt(target, name string) []rootfs.Mount {
	return []rootfs.Mount{{Type: rootfs.Volume, Source: name, Target: target, Writable: true}}
}

// A volume outlives its sandboxes; several have it at a time, and files are in each whose they were in the others,
// though each has other ids outside.
func TestVolume(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		needsUnion(t)
		st := store(t)
		none, err := st.Volumes(t.Context())
		require.NoError(t, err)
		require.Empty(t, none)
		first := box(t, sandbox.Options{Store: st, Mounts: volumeAt("/cache", "build")})
		require.Equal(t, "755 0", shell(t, first, "stat -c '%a %u' /cache; echo 1 >/cache/a; mkdir /cache/d"))
		owner := "0"
		if !oneID(t) {
			owner = "1000"
			shell(t, first, "chown 1000 /cache/a")
		}
		second := box(t, sandbox.Options{Store: st, Rootfs: skeleton(t), Mounts: volumeAt("/root/.cache", "build")})
		require.Equal(t, "1\n"+owner, shell(t, second, "cat /root/.cache/a; stat -c %u /root/.cache/a"))
		shell(t, second, "echo 2 >/root/.cache/a")
		require.Equal(t, "2", shell(t, first, "cat /cache/a"))

		ro := volumeAt("/cache", "build")
		ro[0].Writable = false
		third := box(t, sandbox.Options{Store: st, Mounts: ro})
		require.Contains(t, shell(t, third, "touch /cache/x 2>&1; true"), "Read-only file system")
		names, err := st.Volumes(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{"build"}, names)
		for _, sb := range []*sandbox.Sandbox{first, second, third} {
			require.ErrorIs(t, st.RemoveVolume(t.Context(), "build"), sandbox.ErrInUse)
			require.NoError(t, sb.Close())
		}
		again := box(t, sandbox.Options{Store: st, Mounts: volumeAt("/cache", "build")})
		require.Equal(t, "2", shell(t, again, "cat /cache/a"))
		require.NoError(t, again.Close())
		require.NoError(t, st.RemoveVolume(t.Context(), "build"))
		require.ErrorIs(t, st.RemoveVolume(t.Context(), "build"), fs.ErrNotExist)
		require.ErrorIs(t, st.RemoveVolume(t.Context(), "../x"), fs.ErrInvalid)
		none, err = st.Volumes(t.Context())
		require.NoError(t, err)
		require.Empty(t, none)
	})
}

// Use and removal at the same time: who has the volume keeps it, and what was removed is gone, also where the program that
// removed it died.
func TestVolumeRace(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		needsUnion(t)
		dir := t.TempDir()
		st, err := sandbox.Open(dir)
		require.NoError(t, err)
		var users sync.WaitGroup
		for i := range 3 {
			users.Go(func() {
				for n := range 15 {
					sb := sandbox.New(sandbox.Options{Store: st, Mounts: volumeAt("/v", "shared")})
					script := fmt.Sprintf("echo x >/v/%d-%d && cat /v/%d-%d", i, n, i, n)
					out, err := sb.Output(t.Context(), sandbox.Command("sh", "-c", script))
					if err != nil || string(out) != "x\n" {
						t.Errorf("%q, %v", out, err)
					}
					if err := sb.Close(); err != nil {
						t.Error(err)
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { users.Wait(); close(done) }()
		removals := 0
		for running := true; running; {
			select {
			case <-done:
				running = false
			default:
				if st.RemoveVolume(t.Context(), "shared") == nil {
					removals++
				}
			}
		}
		t.Logf("%d removals", removals)
		left := filepath.Join(dir, "volumes", ".removed-dead", "d")
		require.NoError(t, os.MkdirAll(left, 0o700))
		require.NoError(t, st.Recover(t.Context()))
		require.NoDirExists(t, left)
		require.NoError(t, st.Close())
	})
}
