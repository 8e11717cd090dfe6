//go:build linux

package image

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	it "github.com/seed-5a9fb6e0/sandbox/internal/imagetest"
)

func newStore(t testing.TB) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "store"))
	require.NoError(t, err)
	return s
}

// amd64 images are made on every machine, so tests ask for them.
var amd64 = PullOptions{Platform: "linux/amd64"}

func TestPullBusybox(t *testing.T) {
	host := it.Registry(t)
	want := it.Push(t, host+"/library/busybox:1.35", it.Busybox(t))
	s := newStore(t)
	var last Progress
	img, err := s.Pull(t.Context(), host+"/library/busybox:1.35", PullOptions{Progress: func(p Progress) { last = p }})
	require.NoError(t, err)
	require.Equal(t, want, img.Digest)
	require.Equal(t, host+"/library/busybox:1.35", img.Ref)
	require.Equal(t, "linux/"+runtime.GOARCH, img.Platform)
	require.Equal(t, []string{"sh"}, img.Config.Cmd)
	require.Len(t, img.Layers, 1)
	require.Empty(t, img.Layers[0].Omitted)
	require.Equal(t, Progress{Layer: last.Layer, Done: last.Size, Size: last.Size, TotalDone: last.Size, TotalSize: last.Size, Layers: 1, LayersReady: 1}, last)
	dir := img.Layers[0].Dir
	a, err := os.Stat(filepath.Join(dir, "bin/busybox"))
	require.NoError(t, err)
	b, err := os.Stat(filepath.Join(dir, "bin/ls"))
	require.NoError(t, err)
	require.True(t, os.SameFile(a, b))
	require.Equal(t, it.Epoch.UnixNano(), a.ModTime().UnixNano())
	tmp, err := os.Stat(filepath.Join(dir, "tmp"))
	require.NoError(t, err)
	require.Equal(t, fs.ModeDir|fs.ModeSticky|0o777, tmp.Mode())
	noTmp(t, s)
}

func TestPullForms(t *testing.T) {
	host := it.Registry(t)
	layer := func(name string) v1.Layer { return it.Layer(t, it.Dir("d/", 0o755), it.File("d/"+name, name, 0o644)) }
	img := it.Image(t, layer("a"), layer("b"), layer("a"))
	digest := it.Push(t, host+"/app:1", img)
	dir := t.TempDir()

	path, err := layout.Write(filepath.Join(dir, "oci"), empty.Index)
	require.NoError(t, err)
	require.NoError(t, path.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "one"})))
	other := it.Image(t, layer("c"))
	require.NoError(t, path.AppendImage(other, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "two"})))
	tarDir(t, filepath.Join(dir, "oci"), filepath.Join(dir, "oci.tar"))
	tag, err := name.NewTag("example.test/app:1")
	require.NoError(t, err)
	tag2, err := name.NewTag("example.test/other:2")
	require.NoError(t, err)
	require.NoError(t, tarball.MultiWriteToFile(filepath.Join(dir, "docker.tar"), map[name.Tag]v1.Image{tag: img, tag2: other}))

	cases := []struct{ name, ref, digest string }{
		{"tag", host + "/app:1", digest},
		{"digest", host + "/app@" + digest, digest},
		{"layout", "oci:" + dir + "/oci:one", digest},
		{"layout archive", "oci-archive:" + dir + "/oci.tar:one", digest},
		{"docker archive", "docker-archive:" + dir + "/docker.tar:example.test/app:1", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(t)
			got, err := s.Pull(t.Context(), c.ref, amd64)
			require.NoError(t, err)
			if c.digest != "" {
				require.Equal(t, c.digest, got.Digest)
			}
			require.Equal(t, "linux/amd64", got.Platform)
			require.Equal(t, Config{
				Env: []string{"PATH=/bin", "LANG=C.UTF-8"}, Entrypoint: []string{"/bin/sh", "-c"}, Cmd: []string{"echo hello"},
				WorkingDir: "/tmp", User: "nobody", StopSignal: "SIGQUIT", ExposedPorts: []string{"53/udp", "80/tcp"},
				Volumes: []string{"/data"}, Labels: map[string]string{"k": "v"},
			}, got.Config)
			require.Len(t, got.Layers, 2, "the duplicate layer counts once")
			require.FileExists(t, got.Layers[0].Dir+"/d/b")
			require.FileExists(t, got.Layers[1].Dir+"/d/a", "bottom first, and the topmost of equal ones stays")

			again, err := s.Image(t.Context(), c.ref)
			require.NoError(t, err)
			require.Equal(t, got, again)
			list, err := s.Images(t.Context())
			require.NoError(t, err)
			require.Equal(t, []*Image{got}, list)
			never, err := s.Pull(t.Context(), c.ref, PullOptions{Policy: PullNever, Platform: "linux/amd64"})
			require.NoError(t, err)
			require.Equal(t, got, never)
			require.NoError(t, s.Remove(t.Context(), c.ref))
			require.ErrorIs(t, s.Remove(t.Context(), c.ref), fs.ErrNotExist)
			_, err = s.Image(t.Context(), c.ref)
			require.ErrorIs(t, err, fs.ErrNotExist)
			noTmp(t, s)
		})
	}
	t.Run("missing tag", func(t *testing.T) {
		for _, ref := range []string{
			"oci:" + dir + "/oci:none", "oci:" + dir + "/nowhere", "docker-archive:" + dir + "/docker.tar:none", "docker-archive:" + dir + "/none.tar",
		} {
			_, err := newStore(t).Pull(t.Context(), ref, amd64)
			require.ErrorIs(t, err, fs.ErrNotExist, ref)
		}
	})
}

func TestPolicies(t *testing.T) {
	host := it.Registry(t)
	ref := host + "/app:latest"
	first := it.Push(t, ref, it.Image(t, it.Layer(t, it.File("a", "1", 0o644))))
	s := newStore(t)
	_, err := s.Pull(t.Context(), ref, PullOptions{Policy: PullNever, Platform: "linux/amd64"})
	require.ErrorIs(t, err, fs.ErrNotExist)
	img, err := s.Pull(t.Context(), host+"/app", amd64)
	require.NoError(t, err)
	require.Equal(t, first, img.Digest)
	second := it.Push(t, ref, it.Image(t, it.Layer(t, it.File("a", "2", 0o644))))
	img, err = s.Pull(t.Context(), ref, amd64)
	require.NoError(t, err)
	require.Equal(t, first, img.Digest, "PullMissing doesn't ask")
	img, err = s.Pull(t.Context(), ref, PullOptions{Policy: PullAlways, Platform: "linux/amd64"})
	require.NoError(t, err)
	require.Equal(t, second, img.Digest)
	// A layer that is gone is fetched again.
	require.NoError(t, os.RemoveAll(filepath.Dir(img.Layers[0].Dir)))
	_, err = s.Image(t.Context(), ref)
	require.ErrorIs(t, err, fs.ErrNotExist)
	img, err = s.Pull(t.Context(), ref, amd64)
	require.NoError(t, err)
	require.FileExists(t, img.Layers[0].Dir+"/a")
}

func TestPlatforms(t *testing.T) {
	host := it.Registry(t)
	idx := it.Index(t, map[string]v1.Image{
		"linux/amd64":     it.ImageFor(t, "amd64", it.Layer(t, it.File("amd64", "", 0o644))),
		"linux/arm64/v8":  it.ImageFor(t, "arm64", it.Layer(t, it.File("arm64", "", 0o644))),
		"unknown/unknown": it.ImageFor(t, "", it.Layer(t, it.File("attestation", "", 0o644))),
	})
	it.Push(t, host+"/multi:1", idx)
	single := it.Push(t, host+"/single:1", it.ImageFor(t, "s390x", it.Layer(t, it.File("a", "", 0o644))))
	s := newStore(t)
	for platform, file := range map[string]string{"linux/amd64": "amd64", "linux/arm64": "arm64", "linux/aarch64": "arm64", "linux/x86_64": "amd64"} {
		img, err := s.Pull(t.Context(), host+"/multi:1", PullOptions{Platform: platform})
		require.NoError(t, err, platform)
		require.FileExists(t, filepath.Join(img.Layers[0].Dir, file))
	}
	list, err := s.Images(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 2)
	for _, ref := range []string{host + "/multi:1", host + "/single:1", host + "/single@" + single} {
		_, err = s.Pull(t.Context(), ref, PullOptions{Platform: "linux/riscv64"})
		var pe *PlatformError
		require.ErrorAs(t, err, &pe)
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.Equal(t, "linux/riscv64", pe.Want)
		require.NotContains(t, pe.Have, "unknown/unknown")
	}
	require.ErrorContains(t, err, "linux/s390x")
	for _, bad := range []string{"linux", "linux/", "a/b/c/d", "linux/amd64 "} {
		_, err := s.Pull(t.Context(), host+"/multi:1", PullOptions{Platform: bad})
		require.ErrorIs(t, err, fs.ErrInvalid, bad)
	}
}

func TestUnknown(t *testing.T) {
	host := it.Registry(t)
	it.Push(t, host+"/app:1", it.Image(t))
	for _, ref := range []string{host + "/app:2", host + "/nothing:1", host + "/app@sha256:" + strings.Repeat("0", 64)} {
		_, err := newStore(t).Pull(t.Context(), ref, amd64)
		require.ErrorIs(t, err, fs.ErrNotExist, ref)
		var e *Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, ref, e.Object)
	}
}

func TestArtifact(t *testing.T) {
	host := it.Registry(t)
	it.Push(t, host+"/artifact:1", mutate.ConfigMediaType(it.Image(t), "application/vnd.example.thing"))
	_, err := newStore(t).Pull(t.Context(), host+"/artifact:1", amd64)
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.ErrorContains(t, err, "application/vnd.example.thing")
}

func TestBothManifestAndIndex(t *testing.T) {
	var m v1.Manifest
	_, err := parseDocument([]byte(`{"manifests":[],"layers":[],"config":{}}`), &m)
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = parseDocument([]byte(`<html>`), &m)
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = parseDocument([]byte(`{"fsLayers":[]}`), &m)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

func TestAuth(t *testing.T) {
	host := it.RegistryAuth(t)
	ref := host + "/private:1"
	creds := &authn.Basic{Username: it.User, Password: it.Password}
	want := it.Push(t, ref, it.Image(t, it.Layer(t, it.File("a", "1", 0o644))), remote.WithAuth(creds))

	_, err := newStore(t).Pull(t.Context(), ref, PullOptions{Platform: "linux/amd64", Keychain: authn.NewMultiKeychain()})
	require.ErrorIs(t, err, fs.ErrPermission)
	_, err = newStore(t).Pull(t.Context(), ref, PullOptions{Platform: "linux/amd64", Keychain: keychain{host: &authn.Basic{Username: it.User, Password: "wrong"}}})
	require.ErrorIs(t, err, fs.ErrPermission)
	require.NotContains(t, err.Error(), "wrong")
	img, err := newStore(t).Pull(t.Context(), ref, PullOptions{Platform: "linux/amd64", Keychain: keychain{host: creds}})
	require.NoError(t, err)
	require.Equal(t, want, img.Digest)

	// The default is Docker's configuration file.
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	_, err = newStore(t).Pull(t.Context(), ref, amd64)
	require.ErrorIs(t, err, fs.ErrPermission)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"auths":{"`+host+`":{"username":"`+it.User+`","password":"`+it.Password+`"}}}`), 0o600))
	_, err = newStore(t).Pull(t.Context(), ref, amd64)
	require.NoError(t, err)
}

type keychain map[string]authn.Authenticator

func (k keychain) Resolve(r authn.Resource) (authn.Authenticator, error) {
	if a := k[r.RegistryStr()]; a != nil {
		return a, nil
	}
	return authn.Anonymous, nil
}

func TestCompression(t *testing.T) {
	data := it.Tar(t, it.File("a", strings.Repeat("hello ", 100000), 0o644))
	half := len(data) / 2
	skip := []byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3}
	cases := map[string][]byte{
		"uncompressed":        data,
		"gzip":                it.Gzip(t, data),
		"gzip members":        append(it.Gzip(t, data[:half]), it.Gzip(t, data[half:])...),
		"gzip trailing zeros": append(it.Gzip(t, data), make([]byte, 100000)...),
		"zstd":                it.Zstd(t, data),
		"zstd frames":         append(it.Zstd(t, data[:half]), it.Zstd(t, data[half:])...),
		"zstd skippable":      append(append(bytes.Clone(skip), it.Zstd(t, data)...), skip...),
	}
	host := it.Registry(t)
	for name, blob := range cases {
		t.Run(name, func(t *testing.T) {
			ref := host + "/" + strings.ReplaceAll(name, " ", "-")
			// The media type says nothing true for most of them.
			it.Push(t, ref, it.Image(t, it.Blob(t, blob, data)))
			img, err := newStore(t).Pull(t.Context(), ref, amd64)
			require.NoError(t, err)
			got, err := os.ReadFile(img.Layers[0].Dir + "/a")
			require.NoError(t, err)
			require.Len(t, got, 600000)
		})
	}
	t.Run("empty layer", func(t *testing.T) {
		it.Push(t, host+"/empty", it.Image(t, it.Blob(t, nil, nil), it.Layer(t), it.Layer(t, it.File("a", "", 0o644))))
		img, err := newStore(t).Pull(t.Context(), host+"/empty", amd64)
		require.NoError(t, err)
		require.Len(t, img.Layers, 1)
	})
	t.Run("xz", func(t *testing.T) {
		it.Push(t, host+"/xz", it.Image(t, it.Blob(t, []byte{0xfd, '7', 'z', 'X', 'Z', 0, 1, 2}, data)))
		_, err := newStore(t).Pull(t.Context(), host+"/xz", amd64)
		require.ErrorIs(t, err, errors.ErrUnsupported)
	})
}

// TestCorrupt damages what a registry serves. Each case is checked to leave nothing but the good layer.
func TestCorrupt(t *testing.T) {
	data := it.Tar(t, it.File("a", strings.Repeat("random enough 1234567890", 50000), 0o644))
	blob := it.Gzip(t, data)
	flipped := bytes.Clone(blob)
	flipped[len(flipped)/2] ^= 0x40
	sameTar := it.Gzip(t, append(bytes.Clone(data), make([]byte, 512)...))
	cases := []struct {
		name   string
		served []byte // what the file on the registry's disk becomes; nil: left
		pushed []byte // blob with a right digest
		what   string
	}{
		{name: "flipped bit", served: flipped, pushed: blob, what: "digest"},
		{name: "truncated", served: blob[:len(blob)-100], pushed: blob, what: "size"},
		{name: "truncated trailer", pushed: blob[:len(blob)-4], what: ""},
		{name: "longer", served: append(bytes.Clone(blob), 1), pushed: blob, what: "size"},
		{name: "wrong diff id", pushed: sameTar, what: "diff id"},
		{name: "garbage after gzip", pushed: append(bytes.Clone(blob), 1, 2, 3), what: ""},
	}
	host, dir := it.RegistryDir(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ref := host + "/" + strings.ReplaceAll(c.name, " ", "-")
			layer := it.Blob(t, c.pushed, data)
			it.Push(t, ref, it.Image(t, it.Layer(t, it.File("good", "", 0o644)), layer))
			if c.served != nil {
				h, err := layer.Digest()
				require.NoError(t, err)
				file := filepath.Join(dir, "docker/registry/v2/blobs/sha256", h.Hex[:2], h.Hex, "data")
				require.NoError(t, os.WriteFile(file, c.served, 0o600))
				defer os.WriteFile(file, c.pushed, 0o600)
			}
			s := newStore(t)
			_, err := s.Pull(t.Context(), ref, amd64)
			require.Error(t, err)
			if c.what != "" {
				var ve *VerifyError
				require.ErrorAs(t, err, &ve)
				require.Equal(t, c.what, ve.What, "%v", err)
			}
			noTmp(t, s)
			_, err = s.Image(t.Context(), ref)
			require.ErrorIs(t, err, fs.ErrNotExist)
			layers, err := filepath.Glob(s.path("layers/sha256/*"))
			require.NoError(t, err)
			for _, l := range layers {
				require.FileExists(t, l+"/fs/good")
			}
			require.LessOrEqual(t, len(layers), 1)
		})
	}
}

func TestCorruptManifest(t *testing.T) {
	host, dir := it.RegistryDir(t)
	img := it.Image(t, it.Layer(t, it.File("a", "", 0o644)))
	digest := it.Push(t, host+"/app:1", img)
	hex := strings.TrimPrefix(digest, "sha256:")
	cfg, err := img.ConfigName()
	require.NoError(t, err)
	for _, h := range []string{cfg.Hex, hex} {
		file := filepath.Join(dir, "docker/registry/v2/blobs/sha256", h[:2], h, "data")
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, bytes.Replace(data, []byte(`"`), []byte(` "`), 1), 0o600))
		s := newStore(t)
		_, err = s.Pull(t.Context(), host+"/app@"+digest, amd64)
		require.Error(t, err)
		noTmp(t, s)
		require.NoError(t, os.WriteFile(file, data, 0o600))
	}
	_, err = newStore(t).Pull(t.Context(), host+"/app@"+digest, amd64)
	require.NoError(t, err)
}

// TestConcurrent pulls images that share layers, many times at once, through several Stores of one directory.
func TestConcurrent(t *testing.T) {
	host := it.Registry(t)
	shared := it.Layer(t, it.Dir("bin/", 0o755), it.File("bin/x", strings.Repeat("x", 1<<20), 0o755))
	var refs []string
	for _, n := range []string{"a", "b", "c"} {
		refs = append(refs, host+"/"+n)
		it.Push(t, host+"/"+n, it.Image(t, shared, it.Layer(t, it.File("only-"+n, n, 0o644), it.Whiteout("bin/.wh.x")), it.Layer(t, it.File("d/top", n, 0o644))))
	}
	dir := t.TempDir()
	var wg sync.WaitGroup
	var mu sync.Mutex
	unpacked := map[string]int{} // by layer
	for i := range 12 {
		wg.Go(func() {
			s, err := Open(dir)
			if err != nil {
				t.Error(err)
				return
			}
			o := amd64
			o.Progress = countUnpacked(func(layer string) {
				mu.Lock()
				defer mu.Unlock()
				unpacked[layer]++
			})
			img, err := s.Pull(t.Context(), refs[i%3], o)
			if err != nil {
				t.Error(err)
				return
			}
			if len(img.Layers) != 3 {
				t.Errorf("got %d layers", len(img.Layers))
			}
		})
	}
	wg.Wait()
	s, err := Open(dir)
	require.NoError(t, err)
	layers, err := filepath.Glob(s.path("layers/sha256/*"))
	require.NoError(t, err)
	require.Len(t, layers, 7)
	require.Len(t, unpacked, 7)
	for layer, n := range unpacked {
		require.Equal(t, 1, n, layer)
	}
	noTmp(t, s)
	list, err := s.Images(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 3)
}

// countUnpacked calls f for each layer that a Pull unpacked itself.
func countUnpacked(f func(layer string)) func(Progress) {
	ready := 0
	return func(p Progress) {
		if p.LayersReady > ready && !p.Cached {
			f(p.Layer)
		}
		ready = p.LayersReady
	}
}

// TestWaiterOutlivesLeader: the Pull that does the work is cancelled, and the one that waits for it goes on.
func TestWaiterOutlivesLeader(t *testing.T) {
	host := it.Registry(t)
	it.Push(t, host+"/app", it.Image(t, it.Layer(t, it.File("big", noise(4<<20), 0o644))))
	s := newStore(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("changed my mind")
	o := amd64
	started := make(chan struct{})
	var once sync.Once
	// The layer doesn't compress, so that there are reports before it is done; the first holds it.
	unpacking := make(chan struct{})
	o.Progress = func(Progress) { once.Do(func() { close(started); <-unpacking }) }
	leader := make(chan error, 1)
	go func() {
		_, err := s.Pull(ctx, host+"/app", o)
		leader <- err
	}()
	select {
	case <-started:
	case err := <-leader:
		t.Fatal(err)
	}
	impatient, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	_, err := s.Pull(impatient, host+"/app", amd64)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	waiter := make(chan error, 1)
	go func() {
		_, err := s.Pull(t.Context(), host+"/app", amd64)
		waiter <- err
	}()
	cancel(why)
	close(unpacking)
	require.ErrorIs(t, <-leader, why)
	require.NoError(t, <-waiter)
}

func TestManyLayers(t *testing.T) {
	host := it.Registry(t)
	var layers []v1.Layer
	for i := range 60 {
		layers = append(layers, it.Layer(t, it.File("d/f"+strings.Repeat("x", i), "", 0o644)))
	}
	it.Push(t, host+"/many", it.Image(t, layers...))
	img, err := newStore(t).Pull(t.Context(), host+"/many", amd64)
	require.NoError(t, err)
	require.Len(t, img.Layers, 60)
}

func TestBadOptions(t *testing.T) {
	s := newStore(t)
	for name, o := range map[string]PullOptions{
		"policy": {Policy: 7}, "limits": {Limits: Limits{Bytes: -1}}, "platform": {Platform: "x"},
	} {
		_, err := s.Pull(t.Context(), "localhost:1/app", o)
		require.ErrorIs(t, err, fs.ErrInvalid, name)
	}
	_, err := s.Pull(t.Context(), "Not A Reference", PullOptions{})
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = Open("")
	require.ErrorIs(t, err, fs.ErrInvalid)
}

func TestMatchIndexByTag(t *testing.T) {
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	require.NoError(t, err)
	arm, amd := it.ImageFor(t, "arm64", it.Layer(t, it.File("arm", "", 0o644))), it.Image(t, it.Layer(t, it.File("amd", "", 0o644)))
	idx := it.Index(t, map[string]v1.Image{"linux/arm64": arm, "linux/amd64": amd})
	require.NoError(t, path.ReplaceIndex(idx, match.MediaTypes(string(types.OCIImageIndex))))
	img, err := newStore(t).Pull(t.Context(), "oci:"+dir, amd64)
	require.NoError(t, err)
	require.FileExists(t, img.Layers[0].Dir+"/amd")
}

// noTmp asserts that no operation left anything.
func noTmp(t testing.TB, s *Store) {
	t.Helper()
	left, err := os.ReadDir(s.path("tmp"))
	require.NoError(t, err)
	require.Empty(t, left)
}
