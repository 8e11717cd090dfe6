package sandbox_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/image"
	"github.com/seed-5a9fb6e0/sandbox/internal/imagetest"
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

// A new volume begins with what it covers, as Docker's do, whoever comes first; no half of it is ever seen.
func TestVolumeFilled(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		needsUnion(t)
		registry := imagetest.Registry(t)
		top := imagetest.Dir("data", 0o1750)
		top.Uid, top.Gid = 33, 44
		file := imagetest.File("data/sub/owned", "content", 0o640)
		file.Uid, file.Gid = 33, 44
		imagetest.Push(t, registry+"/app:1", imagetest.Image(t, imagetest.Layer(t, top, imagetest.Dir("data/sub", 0o755), file, imagetest.Symlink("data/link", "/nowhere"), imagetest.Dir("empty", 0o755)),
			imagetest.Layer(t, imagetest.File("data/second", "layer", 0o644))))
		dir := t.TempDir()
		st, err := sandbox.Open(dir)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, st.Close()) })
		owner := "33 44 "
		if os.Geteuid() != 0 {
			owner = "0 0 " // as he unpacks images
		}
		o := sandbox.Options{Store: st, Image: registry + "/app:1", Pull: image.PullOptions{Platform: "linux/amd64"}}
		look := func(mounts ...rootfs.Mount) (list []string) {
			o := o
			o.Mounts = mounts
			sb := box(t, o)
			root, err := sb.Root(t.Context())
			require.NoError(t, err)
			for _, m := range mounts {
				require.NoError(t, fs.WalkDir(root.FS(), m.Target[1:], func(name string, d fs.DirEntry, err error) error {
					require.NoError(t, err)
					info, err := d.Info()
					require.NoError(t, err)
					st := info.Sys().(*unix.Statx_t)
					list = append(list, fmt.Sprint(name, " ", info.Mode(), " ", st.Uid, " ", st.Gid))
					return nil
				}))
			}
			require.NoError(t, sb.Close())
			return list
		}
		want := []string{"data dtrwxr-x--- " + owner, "data/link Lrwxrwxrwx 0 0", "data/second -rw-r--r-- 0 0", "data/sub drwxr-xr-x 0 0", "data/sub/owned -rw-r----- " + owner}
		for i := range want {
			want[i] = strings.TrimSpace(want[i])
		}
		volume := volumeAt("/data", "first")[0]
		require.Equal(t, want, look(volume))
		require.Equal(t, want, look(volume), "the second has it from the first")
		again := volumeAt("/empty", "first")[0]
		require.Equal(t, strings.ReplaceAll(strings.Join(want, "\n"), "data", "empty"), strings.Join(look(again), "\n"))
		readOnly := volumeAt("/data", "read-only")[0]
		readOnly.Writable = false
		require.Equal(t, want, look(readOnly))
		twice := append(volumeAt("/data", "twice"), volumeAt("/empty", "twice")...)
		require.Equal(t, strings.Join(want, "\n")+"\n"+strings.ReplaceAll(strings.Join(want, "\n"), "data", "empty"), strings.Join(look(twice...), "\n"))
		require.Len(t, look(volumeAt("/empty", "none")[0]), 1)
		require.Len(t, look(volumeAt("/new/place", "new")[0]), 1)

		// Over the host's files and a directory, whose owners may be nobody inside, it begins empty.
		for name, o := range map[string]sandbox.Options{"/usr/lib": {Store: st}, "/etc": {Store: st, Rootfs: skeleton(t)}} {
			o.Mounts = volumeAt(name, "empty"+name[1:2])
			files, err := box(t, o).Root(t.Context())
			require.NoError(t, err, name)
			list, err := files.ReadDir(name)
			require.NoError(t, err)
			require.Empty(t, list)
		}

		// Many at once; one died over it before.
		left := filepath.Join(dir, "volumes", ".making-busy", "half")
		require.NoError(t, os.MkdirAll(left, 0o755))
		var all sync.WaitGroup
		for range 6 {
			all.Go(func() {
				o := o
				o.Mounts = volumeAt("/data", "busy")
				sb := sandbox.New(o)
				root, err := sb.Root(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if b, err := root.ReadFile("/data/second"); err != nil || string(b) != "layer" {
					t.Error(string(b), err)
				}
				if err := sb.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		require.NoFileExists(t, left)

		// A sandbox that can't be built leaves no volume.
		o.Mounts = append(volumeAt("/data", "failed"), rootfs.Mount{Type: rootfs.Tmpfs, Target: "/data/second"})
		require.Error(t, box(t, o).Prepare(t.Context()))
		names, err := st.Volumes(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{"busy", "emptye", "emptyu", "first", "new", "none", "read-only", "twice"}, names)
		entries, err := os.ReadDir(filepath.Join(dir, "volumes"))
		require.NoError(t, err)
		require.Len(t, entries, len(names))
		require.NoError(t, os.MkdirAll(left, 0o755))
		require.NoError(t, st.Recover(t.Context()))
		require.NoFileExists(t, left)
	})
}
