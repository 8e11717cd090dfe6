//go:build linux

package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox/internal/imagetest"
)

// base pulls an image of two layers from a registry of its own.
func base(t testing.TB, s *Store, registry string) *Image {
	imagetest.Push(t, registry+"/base:1", imagetest.Image(t,
		imagetest.Layer(t, imagetest.Dir("etc", 0o755), imagetest.File("etc/a", "a", 0o644), imagetest.File("etc/b", "b", 0o644)),
		imagetest.Layer(t, imagetest.File("etc/c", "c", 0o644))))
	img, err := s.Pull(t.Context(), registry+"/base:1", amd64)
	require.NoError(t, err)
	return img
}

var change = []imagetest.Entry{
	imagetest.Dir("etc", 0o755), imagetest.Whiteout("etc/.wh.a"), imagetest.File("etc/b", "changed", 0o600), imagetest.File("new", "new", 0o4755),
}

func commitChange(t testing.TB, s *Store, base *Image) *Image {
	img, err := s.Commit(t.Context(), "app:2", CommitOptions{
		Base: base, Layer: bytes.NewReader(imagetest.Tar(t, change...)), Author: "somebody", Comment: "a change",
		Edit: func(c *Config) {
			c.Env, c.Cmd, c.User = append(c.Env, "NEW=1"), []string{"/new"}, "7:8"
			c.ExposedPorts, c.Labels = []string{"80/tcp"}, map[string]string{"k": "v"}
		},
	})
	require.NoError(t, err)
	return img
}

// layerTrees are the trees of an image's layers.
func layerTrees(t testing.TB, img *Image) (all [][]string) {
	for _, l := range img.Layers {
		all = append(all, listing(t, l.Dir))
	}
	return all
}

// A committed image is one like others: pushed, saved, and pulled again by others it is the same.
func TestCommit(t *testing.T) {
	registry := imagetest.Registry(t)
	s := newStore(t)
	from := base(t, s, registry)
	img := commitChange(t, s, from)
	require.Len(t, img.Layers, 3)
	require.Equal(t, from.Layers, img.Layers[:2])
	require.Equal(t, []string{"etc/", "etc/a c0:0", "etc/b=changed", "new=new"}, layerTrees(t, img)[2])
	require.Equal(t, "docker.io/library/app:2", img.Ref)
	want := from.Config
	want.Env, want.Cmd, want.User = append(want.Env, "NEW=1"), []string{"/new"}, "7:8"
	want.ExposedPorts, want.Labels = []string{"80/tcp"}, map[string]string{"k": "v"}
	require.Equal(t, want, img.Config)
	again, err := s.Image(t.Context(), "app:2")
	require.NoError(t, err)
	require.Equal(t, img, again)

	require.NoError(t, s.Push(t.Context(), "app:2", registry+"/other/app:3", PushOptions{}))
	file := filepath.Join(t.TempDir(), "app.tar")
	f, err := os.Create(file)
	require.NoError(t, err)
	require.NoError(t, s.Save(t.Context(), "app:2", f))
	require.NoError(t, f.Close())
	for _, ref := range []string{registry + "/other/app:3", "oci-archive:" + file, "oci-archive:" + file + ":2", "docker-archive:" + file, "docker-archive:" + file + ":app:2"} {
		t.Run(strings.ReplaceAll(ref, "/", "_"), func(t *testing.T) {
			other := newStore(t)
			got, err := other.Pull(t.Context(), ref, amd64)
			require.NoError(t, err)
			require.Equal(t, layerTrees(t, img), layerTrees(t, got))
			require.Equal(t, img.Config, got.Config)
			if !strings.HasPrefix(ref, "docker") { // which has another manifest
				require.Equal(t, img.Digest, got.Digest)
			}
			// And a change to that one goes on from there.
			next, err := other.Commit(t.Context(), "next", CommitOptions{Base: got, Layer: bytes.NewReader(imagetest.Tar(t))})
			require.NoError(t, err)
			require.NoError(t, other.Save(t.Context(), "next", io.Discard))
			require.Equal(t, got.Layers, next.Layers, "an empty layer is not mounted")
			require.NoError(t, other.Push(t.Context(), "next", registry+"/next:latest", PushOptions{}))
		})
	}
	scratch, err := s.Commit(t.Context(), "scratch", CommitOptions{Layer: bytes.NewReader(imagetest.Tar(t, change...))})
	require.NoError(t, err)
	require.Len(t, scratch.Layers, 1)
	require.NoError(t, s.Save(t.Context(), "scratch", io.Discard))
	noTmp(t, s)
}

// What can't become an image is an error, and leaves the store as it was.
func TestCommitInvalid(t *testing.T) {
	registry := imagetest.Registry(t)
	s := newStore(t)
	from := base(t, s, registry)
	before := listing(t, s.dir)
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		ref  string
		o    CommitOptions
		want error
	}{
		"no layer":         {"x", CommitOptions{Base: from}, fs.ErrInvalid},
		"a file":           {"oci:/x", CommitOptions{Base: from, Layer: bytes.NewReader(nil)}, fs.ErrInvalid},
		"a digest":         {"x@sha256:" + strings.Repeat("0", 64), CommitOptions{Base: from, Layer: bytes.NewReader(nil)}, fs.ErrInvalid},
		"no name":          {"", CommitOptions{Base: from, Layer: bytes.NewReader(nil)}, fs.ErrInvalid},
		"no archive":       {"x", CommitOptions{Base: from, Layer: strings.NewReader(strings.Repeat("no", 600))}, tar.ErrHeader},
		"a reader's error": {"x", CommitOptions{Base: from, Layer: io.MultiReader(bytes.NewReader(make([]byte, 9)), errReader{broken})}, broken},
		"an evil archive":  {"x", CommitOptions{Base: from, Layer: bytes.NewReader(imagetest.Tar(t, imagetest.Whiteout(".wh..")))}, fs.ErrInvalid},
		"a foreign base":   {"x", CommitOptions{Base: &Image{Digest: "sha256:" + strings.Repeat("1", 64)}, Layer: bytes.NewReader(nil)}, fs.ErrNotExist},
		"an invented base": {"x", CommitOptions{Base: &Image{Digest: "../../x"}, Layer: bytes.NewReader(nil)}, fs.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Commit(t.Context(), c.ref, c.o)
			require.ErrorIs(t, err, c.want)
			var e *Error
			require.ErrorAs(t, err, &e)
			noTmp(t, s)
		})
	}
	list, err := s.Images(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
	_, err = s.Prune(t.Context())
	require.NoError(t, err)
	for _, name := range before {
		if !strings.HasPrefix(name, "locks/") {
			require.Contains(t, listing(t, s.dir), name)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(broken)
	_, err = s.Commit(ctx, "x", CommitOptions{Base: from, Layer: bytes.NewReader(imagetest.Tar(t, change...))})
	require.ErrorIs(t, err, broken)
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// A tag is a name like the first; what no name leads to is pruned, the compressed layer of a commit too.
func TestTagAndPrune(t *testing.T) {
	registry := imagetest.Registry(t)
	s := newStore(t)
	from := base(t, s, registry)
	img := commitChange(t, s, from)
	require.NoError(t, s.Tag(t.Context(), "app:2", "mirror.test:5000/team/app:stable"))
	require.NoError(t, s.Tag(t.Context(), "app:2", "app:2"))
	require.NoError(t, s.Remove(t.Context(), "app:2"))
	require.NoError(t, s.Remove(t.Context(), registry+"/base:1"))
	_, err := s.Prune(t.Context())
	require.NoError(t, err)
	got, err := s.Image(t.Context(), "mirror.test:5000/team/app:stable")
	require.NoError(t, err)
	require.Equal(t, img.Layers, got.Layers)
	require.Equal(t, img.Digest, got.Digest)
	require.NoError(t, s.Save(t.Context(), got.Ref, io.Discard))
	require.ErrorIs(t, s.Tag(t.Context(), "app:2", "x"), fs.ErrNotExist)
	require.ErrorIs(t, s.Tag(t.Context(), got.Ref, "oci:/x"), fs.ErrInvalid)
	require.ErrorIs(t, s.Tag(t.Context(), "?", "x"), fs.ErrInvalid)
	require.NoError(t, s.Remove(t.Context(), got.Ref))
	p, err := s.Prune(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, p.Layers)
	left, err := filepath.Glob(s.path("blobs", "*", "*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// What the store has unpacked only, and its source has no more, can't be pushed or saved: that is said, not left out.
func TestPushWithoutLayers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	registry := imagetest.Registry(t)
	s := newStore(t)
	img := base(t, s, registry)
	require.NoError(t, os.Mkdir(dir, 0o755))
	file := filepath.Join(dir, "base.tar")
	f, err := os.Create(file)
	require.NoError(t, err)
	require.NoError(t, s.Save(t.Context(), img.Ref, f))
	require.NoError(t, f.Close())
	got, err := s.Pull(t.Context(), "oci-archive:"+file, amd64)
	require.NoError(t, err)
	require.Equal(t, img.Digest, got.Digest)
	require.NoError(t, s.Push(t.Context(), got.Ref, registry+"/again:1", PushOptions{}))
	require.NoError(t, os.Remove(file))
	require.NoError(t, s.Push(t.Context(), got.Ref, registry+"/again:2", PushOptions{}), "the registry has all its layers")
	other := imagetest.Registry(t)
	require.ErrorIs(t, s.Push(t.Context(), got.Ref, other+"/again:3", PushOptions{}), fs.ErrNotExist)
	require.ErrorIs(t, s.Save(t.Context(), got.Ref, io.Discard), fs.ErrNotExist)
	require.ErrorIs(t, s.Push(t.Context(), "none:1", other+"/x", PushOptions{}), fs.ErrNotExist)
	require.ErrorIs(t, s.Push(t.Context(), img.Ref, "oci:/x", PushOptions{}), fs.ErrInvalid)
	// A layer that isn't what the manifest says is found out.
	manifest, err := os.ReadFile(s.path("blobs", "sha256", strings.TrimPrefix(img.Digest, "sha256:")))
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(manifest), `"layers"`)
	_, rest, _ = strings.Cut(rest, "sha256:")
	require.NoError(t, os.WriteFile(s.path("blobs", "sha256", rest[:64]), []byte("wrong"), 0o600))
	var verify *VerifyError
	require.ErrorAs(t, s.Save(t.Context(), img.Ref, io.Discard), &verify)
	require.Error(t, s.Push(t.Context(), img.Ref, other+"/wrong:1", PushOptions{}))
}

func TestUsage(t *testing.T) {
	registry := imagetest.Registry(t)
	s := newStore(t)
	from := base(t, s, registry)
	img := commitChange(t, s, from)
	require.NoError(t, s.Tag(t.Context(), "app:2", "app:same"))
	used, err := s.Usage(t.Context())
	require.NoError(t, err)
	require.Len(t, used, 3)
	byRef := map[string]Used{}
	for _, u := range used {
		byRef[u.Ref] = u
	}
	require.Equal(t, Used{Ref: from.Ref, Digest: from.Digest, Platform: from.Platform, Layers: 2, Bytes: 3}, byRef[from.Ref])
	require.Equal(t, Used{Ref: img.Ref, Digest: img.Digest, Platform: img.Platform, Layers: 3, Bytes: 3 + 10, Unique: 10}, byRef[img.Ref])
	require.Equal(t, byRef[img.Ref].Unique, byRef["docker.io/library/app:same"].Unique, "it is one image")
}
