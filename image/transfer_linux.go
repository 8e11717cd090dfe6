package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Tag has newRef, a name as in a registry, stand for what ref does, for all platforms. What newRef stood for is forgotten.
func (s *Store) Tag(ctx context.Context, ref, newRef string) error {
	if err := s.tag(ctx, ref, newRef); err != nil {
		return &Error{Op: "tag", Object: shorten(ref), Err: err}
	}
	return nil
}

func (s *Store) tag(ctx context.Context, ref, newRef string) error {
	parsed, err := parseReference(ref)
	if err != nil {
		return err
	}
	name, err := ownName(newRef)
	if err != nil || name == parsed.String() {
		return err
	}
	// As long as this is held ref stays, and with it all that it leads to.
	unlock, err := s.lock(ctx, "ref-"+refID(parsed.String()))
	if err != nil {
		return err
	}
	defer unlock()
	r, err := s.readRecord(s.recordPath(parsed.String()))
	if err != nil {
		return err
	}
	w, err := s.newWorkspace()
	if err != nil {
		return err
	}
	data := append(mustJSON(&record{Ref: name, Images: r.Images}), '\n')
	return errors.Join(w.writeFile(s.recordPath(name), data), w.close())
}

// openLayer opens a compressed layer: the store's own, or that of where the image came from. Its bytes are not verified.
func (s *Store) openLayer(ctx context.Context, source string, d v1.Descriptor, o PullOptions) (io.ReadCloser, error) {
	if err := checkHash(d.Digest); err != nil {
		return nil, err
	}
	f, err := os.Open(s.blobPath(d.Digest))
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	r, err := parseReference(source)
	if err != nil {
		return nil, missingf("layer %s: the store has it unpacked only, and does not know where it came from", d.Digest)
	}
	src, err := s.source(ctx, r, o)
	if err != nil {
		return nil, err
	}
	rc, err := src.blob(ctx, d)
	if err != nil {
		return nil, errors.Join(err, src.close())
	}
	return &sourced{rc, src}, nil
}

// sourced closes its source, too.
type sourced struct {
	io.ReadCloser
	src source
}

func (s *sourced) Close() error { return errors.Join(s.ReadCloser.Close(), s.src.close()) }

// whole is an image of the store with its compressed layers: a partial.CompressedImageCore.
type whole struct {
	ctx      context.Context
	store    *Store
	source   string
	opts     PullOptions
	manifest v1.Manifest
	raw      []byte
	config   []byte
}

func (s *Store) whole(ctx context.Context, ref string, o PullOptions) (*whole, *Image, error) {
	img, err := s.image(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	digest, err := v1.NewHash(img.Digest)
	if err != nil {
		return nil, nil, err
	}
	w := &whole{ctx: ctx, store: s, source: img.source, opts: o}
	if w.raw, err = s.readBlob(digest); err != nil {
		return nil, nil, err
	}
	if err := s.loadJSON(digest, &w.manifest); err != nil {
		return nil, nil, err
	}
	w.config, err = s.readBlob(w.manifest.Config.Digest)
	return w, img, err
}

// MediaType is that of the manifest.
func (w *whole) MediaType() (types.MediaType, error) {
	if w.manifest.MediaType == "" {
		return types.OCIManifestSchema1, nil
	}
	return w.manifest.MediaType, nil
}

// RawManifest is the manifest as it was pulled.
func (w *whole) RawManifest() ([]byte, error) { return w.raw, nil }

// RawConfigFile is the configuration as it was pulled.
func (w *whole) RawConfigFile() ([]byte, error) { return w.config, nil }

// LayerByDigest finds a layer of the manifest.
func (w *whole) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, d := range w.manifest.Layers {
		if d.Digest == h {
			return &packedLayer{w, d}, nil
		}
	}
	return nil, missingf("layer %s", h)
}

type packedLayer struct {
	w *whole
	d v1.Descriptor
}

// Digest is of the compressed layer.
func (l *packedLayer) Digest() (v1.Hash, error) { return l.d.Digest, nil }

// Size is in bytes, compressed.
func (l *packedLayer) Size() (int64, error) { return l.d.Size, nil }

// MediaType is that of the manifest.
func (l *packedLayer) MediaType() (types.MediaType, error) { return l.d.MediaType, nil }

// Compressed opens the layer.
func (l *packedLayer) Compressed() (io.ReadCloser, error) {
	return l.w.store.openLayer(l.w.ctx, l.w.source, l.d, l.w.opts)
}

// Push writes an image of the store, the one that Image gives for ref, to a registry, as to. Layers that the registry has
// are not sent again. One that the store has unpacked only is read from where the image was pulled from, which must still
// have it: fs.ErrNotExist else. The registry verifies what it gets.
func (s *Store) Push(ctx context.Context, ref, to string, o PushOptions) error {
	if err := s.push(ctx, ref, to, o); err != nil {
		return &Error{Op: "push", Object: shorten(to), Err: err}
	}
	return nil
}

func (s *Store) push(ctx context.Context, ref, to string, o PushOptions) error {
	r, err := parseReference(to)
	if err != nil {
		return err
	}
	if r.kind != kindRegistry {
		return invalidf("%q is a file: use Save", shorten(to))
	}
	target := r.ref
	if o.Insecure {
		if target, err = name.ParseReference(target.Name(), name.Insecure); err != nil {
			return invalidf("%v", err)
		}
	}
	w, _, err := s.whole(ctx, ref, PullOptions{Keychain: o.Keychain, Insecure: o.Insecure})
	if err != nil {
		return err
	}
	img, err := partial.CompressedToImage(w)
	if err != nil {
		return err
	}
	keys := o.Keychain
	if keys == nil {
		keys = authn.DefaultKeychain
	}
	conns := newTransport()
	defer conns.CloseIdleConnections()
	transport := asRoundTripper(conns, o.Insecure)
	return registryError(remote.Write(target, img, remote.WithContext(ctx), remote.WithAuthFromKeychain(keys), remote.WithTransport(transport)))
}

// Save writes an image of the store, the one that Image gives for ref, to w as a tar archive that is an OCI image layout
// (Pull reads it as "oci-archive:FILE") and at the same time what docker save writes since Docker 25
// ("docker-archive:FILE"), named as it is in the store. Layers are found as by Push, and verified.
func (s *Store) Save(ctx context.Context, ref string, w io.Writer) error {
	if err := s.save(ctx, ref, w, PullOptions{}); err != nil {
		return &Error{Op: "save", Object: shorten(ref), Err: err}
	}
	return nil
}

func (s *Store) save(ctx context.Context, ref string, to io.Writer, o PullOptions) error {
	w, img, err := s.whole(ctx, ref, o)
	if err != nil {
		return err
	}
	t := tar.NewWriter(to)
	mediaType, _ := w.MediaType()
	digest, err := v1.NewHash(img.Digest)
	if err != nil {
		return err
	}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{{
		MediaType: mediaType, Digest: digest, Size: int64(len(w.raw)),
		Annotations: map[string]string{refNames[0]: tagOf(img.Ref), refNames[1]: img.Ref},
	}}}
	docker := []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}{{Config: blobName(w.manifest.Config.Digest), RepoTags: []string{img.Ref}}}
	for _, d := range w.manifest.Layers {
		docker[0].Layers = append(docker[0].Layers, blobName(d.Digest))
	}
	for _, f := range []struct {
		name string
		data []byte
	}{
		{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)}, {"index.json", mustJSON(index)}, {"manifest.json", mustJSON(docker)},
		{blobName(digest), w.raw}, {blobName(w.manifest.Config.Digest), w.config},
	} {
		if err := writeEntry(t, f.name, int64(len(f.data)), bytes.NewReader(f.data)); err != nil {
			return err
		}
	}
	written := map[v1.Hash]bool{}
	for _, d := range w.manifest.Layers {
		if written[d.Digest] {
			continue
		}
		written[d.Digest] = true
		if err := w.saveLayer(ctx, t, d); err != nil {
			return err
		}
	}
	return t.Close()
}

// tagOf is the tag of a normalised reference, which other references than names don't have.
func tagOf(ref string) string {
	r, err := parseReference(ref)
	if err != nil || r.kind != kindRegistry {
		return "latest"
	}
	return r.ref.Identifier()
}

func writeEntry(t *tar.Writer, name string, size int64, r io.Reader) error {
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644}); err != nil {
		return err
	}
	_, err := io.Copy(t, r)
	return err
}

func (w *whole) saveLayer(ctx context.Context, t *tar.Writer, d v1.Descriptor) error {
	rc, err := w.store.openLayer(ctx, w.source, d, w.opts)
	if err != nil {
		return err
	}
	defer rc.Close()
	wrong := &VerifyError{Object: d.Digest.String(), What: "size", Want: strconv.FormatInt(d.Size, 10), Got: "more"}
	m, err := newMeter(&contextReader{ctx, rc}, d.Digest.Algorithm, d.Size, wrong)
	if err != nil {
		return err
	}
	err = writeEntry(t, blobName(d.Digest), d.Size, m)
	if err != nil {
		return err
	}
	if m.n != d.Size {
		return &VerifyError{Object: d.Digest.String(), What: "size", Want: strconv.FormatInt(d.Size, 10), Got: strconv.FormatInt(m.n, 10)}
	}
	if got := m.sum(d.Digest.Algorithm); got != d.Digest.String() {
		return &VerifyError{Object: d.Digest.String(), What: "digest", Want: d.Digest.String(), Got: got}
	}
	return nil
}

// Usage says how much each image of the store takes, in the order of Images.
func (s *Store) Usage(ctx context.Context) ([]Used, error) {
	list, err := s.Images(ctx)
	if err != nil {
		return nil, err
	}
	users := map[string]map[string]bool{} // of a layer's directory: digests
	layers := make([][]stored, len(list))
	for i, img := range list {
		if layers[i], err = s.layersOf(img); err != nil {
			return nil, &Error{Op: "usage", Object: img.Ref, Err: err}
		}
		for _, l := range layers[i] {
			if users[l.dir] == nil {
				users[l.dir] = map[string]bool{}
			}
			users[l.dir][img.Digest] = true
		}
	}
	used := make([]Used, len(list))
	for i, img := range list {
		used[i] = Used{Ref: img.Ref, Digest: img.Digest, Platform: img.Platform}
		for _, l := range layers[i] {
			used[i].Layers++
			used[i].Bytes += l.meta.Bytes
			if len(users[l.dir]) == 1 {
				used[i].Unique += l.meta.Bytes
			}
		}
	}
	return used, nil
}

// layersOf are the different layers of an image that is complete.
func (s *Store) layersOf(img *Image) (list []stored, err error) {
	digest, err := v1.NewHash(img.Digest)
	if err != nil {
		return nil, err
	}
	_, all, err := s.loadLayers(digest)
	seen := map[string]bool{}
	for _, l := range all {
		if !seen[l.dir] {
			list = append(list, l)
		}
		seen[l.dir] = true
	}
	return list, err
}
