// Package imagetest builds container images in Go and serves them from a real registry, for tests only.
package imagetest

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Epoch is the modification time of entries that have none.
var Epoch = time.Date(2020, 1, 2, 3, 4, 5, 678901234, time.UTC)

// Entry is one entry of a layer.
type Entry struct {
	tar.Header
	Data string
}

// Dir, File, Link, Symlink, Whiteout and Opaque make the common entries; change the result for others.
func Dir(name string, mode int64) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}}
}

// File is a regular file.
func File(name, data string, mode int64) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}, Data: data}
}

// Link is a hard link.
func Link(name, target string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}}
}

// Symlink is a symbolic link.
func Symlink(name, target string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}

// Whiteout is an empty file of that name, as the OCI specification's whiteouts are.
func Whiteout(name string) Entry { return File(name, "", 0o644) }

// Tar makes an archive.
func Tar(t testing.TB, entries ...Entry) []byte {
	t.Helper()
	data, err := archive(entries)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Archive is Tar where there is no test, in an Example. It panics.
func Archive(entries ...Entry) []byte {
	data, err := archive(entries)
	if err != nil {
		panic(err)
	}
	return data
}

func archive(entries []Entry) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		h.Size = int64(len(e.Data))
		if h.ModTime.IsZero() {
			h.ModTime = Epoch
		}
		h.Format = tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			return nil, fmt.Errorf("tar %q: %w", h.Name, err)
		}
		if _, err := io.WriteString(w, e.Data); err != nil {
			return nil, fmt.Errorf("tar %q: %w", h.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Gzip compresses.
func Gzip(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Zstd compresses.
func Zstd(t testing.TB, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(data, nil)
}

// Blob is a layer of any bytes, right or wrong: blob is what the registry has, diff its promised uncompressed content.
func Blob(t testing.TB, blob, diff []byte) v1.Layer {
	t.Helper()
	h, _, err := v1.SHA256(bytes.NewReader(diff))
	if err != nil {
		t.Fatal(err)
	}
	return rawLayer{static.NewLayer(blob, types.OCILayer), h}
}

// rawLayer is a layer whose diff id is a claim.
type rawLayer struct {
	v1.Layer
	diff v1.Hash
}

func (l rawLayer) DiffID() (v1.Hash, error) { return l.diff, nil }

// Layer is a gzip layer of entries.
func Layer(t testing.TB, entries ...Entry) v1.Layer {
	t.Helper()
	data := Tar(t, entries...)
	return Blob(t, Gzip(t, data), data)
}

// Image is an image of layers, bottom first, for linux and the architecture amd64, with a configuration that has
// something of everything.
func Image(t testing.TB, layers ...v1.Layer) v1.Image { return ImageFor(t, "amd64", layers...) }

// ImageFor is Image for another architecture.
func ImageFor(t testing.TB, arch string, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1), layers...)
	if err != nil {
		t.Fatal(err)
	}
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture = "linux", arch
	cf.Config = v1.Config{
		Env: []string{"PATH=/bin", "LANG=C.UTF-8"}, Entrypoint: []string{"/bin/sh", "-c"}, Cmd: []string{"echo hello"},
		WorkingDir: "/tmp", User: "nobody", StopSignal: "SIGQUIT", ExposedPorts: map[string]struct{}{"80/tcp": {}, "53/udp": {}},
		Volumes: map[string]struct{}{"/data": {}}, Labels: map[string]string{"k": "v"},
	}
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		t.Fatal(err)
	}
	return img
}

// Index is an index of images by "os/arch[/variant]".
func Index(t testing.TB, images map[string]v1.Image) v1.ImageIndex {
	t.Helper()
	idx := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for platform, img := range images {
		p, err := v1.ParsePlatform(platform)
		if err != nil {
			t.Fatal(err)
		}
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: p}})
	}
	return idx
}

// Push pushes an image or index and returns its digest, "sha256:…".
func Push(t testing.TB, ref string, what interface {
	remote.Taggable
	Digest() (v1.Hash, error)
}, opts ...remote.Option) string {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	switch w := what.(type) {
	case v1.Image:
		err = remote.Write(r, w, opts...)
	case v1.ImageIndex:
		err = remote.WriteIndex(r, w, opts...)
	default:
		err = fmt.Errorf("neither image nor index: %T", what)
	}
	if err != nil {
		t.Fatalf("push %q: %v", ref, err)
	}
	h, err := what.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}
