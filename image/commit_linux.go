package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
)

// Commit makes a new image of the store from layers that are there and one more, and has ref, a name as in a registry,
// stand for it. The layer is compressed, unpacked and kept, so that it can be pushed and saved. A malformed ref or
// archive is an fs.ErrInvalid; a Base that is gone is an fs.ErrNotExist.
func (s *Store) Commit(ctx context.Context, ref string, o CommitOptions) (*Image, error) {
	img, err := s.commit(ctx, ref, o)
	if err != nil {
		return nil, &Error{Op: "commit", Object: shorten(ref), Err: err}
	}
	return img, nil
}

func (s *Store) commit(ctx context.Context, ref string, o CommitOptions) (*Image, error) {
	name, err := ownName(ref)
	if err != nil {
		return nil, err
	}
	if o.Layer == nil {
		return nil, invalidf("CommitOptions.Layer: nil")
	}
	c := &committed{store: s, source: fmt.Sprintf("%s (committed)", name)}
	if err := c.begin(o.Base); err != nil {
		return nil, err
	}
	w, err := s.newWorkspace()
	if err != nil {
		return nil, err
	}
	var img *Image
	if err = c.compress(ctx, filepath.Join(w.path, "layer"), o.Layer); err == nil {
		c.describe(o)
		img, err = s.fetch(ctx, c, job{ref: name, want: c.platform, source: c.source})
	}
	return img, errors.Join(err, w.close())
}

// ownName is a reference that something of the store's own can have.
func ownName(ref string) (string, error) {
	r, err := parseReference(ref)
	switch {
	case err != nil:
		return "", err
	case r.kind != kindRegistry:
		return "", invalidf("%q is a file: give it a name as in a registry, and Save it", shorten(ref))
	case strings.Contains(r.String(), "@"):
		return "", invalidf("%q has a digest, which comes from the content", shorten(ref))
	}
	return r.String(), nil
}

// committed is the source of an image that is made here.
type committed struct {
	store    *Store
	source   string // where the layers of the base come from
	platform v1.Platform
	manifest v1.Manifest
	config   v1.ConfigFile
	layer    struct {
		path string
		desc v1.Descriptor
	}
	raw []byte // configuration
	doc document
}

// begin takes over what the base says.
func (c *committed) begin(base *Image) (err error) {
	if base == nil {
		c.platform, err = parsePlatform("")
		c.config = v1.ConfigFile{OS: c.platform.OS, Architecture: c.platform.Architecture, Variant: c.platform.Variant, RootFS: v1.RootFS{Type: "layers"}}
		return err
	}
	digest, err := v1.NewHash(base.Digest)
	if err != nil {
		return invalidf("CommitOptions.Base: %v", err)
	}
	if err := c.store.loadJSON(digest, &c.manifest); err != nil {
		return err
	}
	if err := c.store.loadJSON(c.manifest.Config.Digest, &c.config); err != nil {
		return err
	}
	c.source = base.source
	c.manifest.Annotations = map[string]string{annotationBase: base.Ref, annotationBaseDigest: base.Digest}
	c.platform, err = parsePlatform(base.Platform)
	return err
}

// Annotations of the OCI image specification (annotations.md).
const (
	annotationBase       = "org.opencontainers.image.base.name"
	annotationBaseDigest = "org.opencontainers.image.base.digest"
)

// compress writes the layer as gzip, which every registry and client knows.
func (c *committed) compress(ctx context.Context, path string, layer io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	packed, err := newMeter(nil, "sha256", 1<<62, nil)
	if err != nil {
		return err
	}
	plain, err := newMeter(&contextReader{ctx, layer}, "sha256", MaxBytes, &LimitError{What: "bytes", Max: MaxBytes})
	if err != nil {
		return err
	}
	z := gzip.NewWriter(io.MultiWriter(f, packed))
	if _, err := io.Copy(z, plain); err != nil {
		return err
	}
	if err := errors.Join(z.Close(), f.Sync()); err != nil {
		return err
	}
	diff, err := v1.NewHash(plain.sum("sha256"))
	if err != nil {
		return err
	}
	c.config.RootFS.DiffIDs = append(c.config.RootFS.DiffIDs, diff)
	digest, err := v1.NewHash(packed.sum("sha256"))
	c.layer.path, c.layer.desc = path, v1.Descriptor{MediaType: types.OCILayer, Digest: digest, Size: packed.n}
	return err
}

// Write counts and hashes what is written.
func (m *meter) Write(p []byte) (int, error) {
	m.hash.Write(p)
	m.n += int64(len(p))
	return len(p), nil
}

// describe makes configuration and manifest.
func (c *committed) describe(o CommitOptions) {
	now := v1.Time{Time: time.Now().UTC().Truncate(time.Second)}
	c.config.Created, c.config.Author = now, o.Author
	c.config.History = append(c.config.History, v1.History{Created: now, Author: o.Author, Comment: o.Comment})
	if o.Edit != nil {
		config := newConfig(c.config.Config)
		o.Edit(&config)
		config.applyTo(&c.config.Config)
	}
	m := &c.manifest
	m.SchemaVersion, m.MediaType = 2, types.OCIManifestSchema1
	for i := range m.Layers {
		if t, ok := ociTypes[m.Layers[i].MediaType]; ok {
			m.Layers[i].MediaType = t
		}
	}
	m.Layers = append(m.Layers, c.layer.desc)
	c.raw = mustJSON(&c.config)
	m.Config = v1.Descriptor{MediaType: types.OCIConfigJSON, Size: int64(len(c.raw)), Digest: sha256Of(c.raw)}
	data := mustJSON(m)
	c.doc = document{data, sha256Of(data)}
}

// ociTypes are the names that Docker's media types have in an OCI manifest.
var ociTypes = map[types.MediaType]types.MediaType{
	types.DockerLayer: types.OCILayer, types.DockerUncompressedLayer: types.OCIUncompressedLayer,
	types.DockerForeignLayer: types.OCIRestrictedLayer,
}

// mustJSON is for structs of strings and numbers.
func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic("BUG(sandbox): " + err.Error())
	}
	return data
}

func sha256Of(data []byte) v1.Hash {
	h, _, _ := v1.SHA256(bytes.NewReader(data)) // a bytes.Reader has no errors
	return h
}

func (c *committed) top(context.Context, v1.Platform) (document, error) { return c.doc, nil }

func (c *committed) child(context.Context, v1.Descriptor) ([]byte, error) {
	return nil, missingf("no index")
}

func (c *committed) blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	switch d.Digest {
	case c.manifest.Config.Digest:
		return io.NopCloser(bytes.NewReader(c.raw)), nil
	case c.layer.desc.Digest:
		return os.Open(c.layer.path)
	}
	return c.store.openLayer(ctx, c.source, d, PullOptions{})
}

// keep are the compressed layers that nobody else has.
func (c *committed) keep() map[v1.Hash]string {
	return map[v1.Hash]string{c.layer.desc.Digest: c.layer.path}
}

func (c *committed) close() error { return nil }

// applyTo is the reverse of newConfig.
func (c Config) applyTo(v *v1.Config) {
	v.Env, v.Entrypoint, v.Cmd, v.WorkingDir, v.User, v.StopSignal = c.Env, c.Entrypoint, c.Cmd, c.WorkingDir, c.User, c.StopSignal
	v.ExposedPorts, v.Volumes, v.Labels = set(c.ExposedPorts), set(c.Volumes), c.Labels
}

func set(list []string) map[string]struct{} {
	if list == nil {
		return nil
	}
	m := map[string]struct{}{}
	for _, v := range list {
		m[v] = struct{}{}
	}
	return m
}
