package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// source is where a reference leads: a registry or local files.
type source interface {
	// top is the manifest or index that the reference names.
	top(ctx context.Context, want v1.Platform) (document, error)
	// blob opens a blob; the bytes are not verified.
	blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error)
	// child reads a manifest that an index names; not verified.
	child(ctx context.Context, d v1.Descriptor) ([]byte, error)
	close() error
}

// document is a manifest or index, and its digest.
type document struct {
	data   []byte
	digest v1.Hash
}

func newDocument(data []byte) (document, error) {
	h, _, err := v1.SHA256(bytes.NewReader(data))
	return document{data, h}, err
}

func (s *Store) source(ctx context.Context, r Reference, o PullOptions) (source, error) {
	switch r.kind {
	case kindLayout:
		return openLayoutDir(r)
	case kindLayoutArchive:
		return openLayoutArchive(ctx, r)
	case kindDockerArchive:
		return openDockerArchive(ctx, r)
	}
	return openRegistry(ctx, r, o)
}

// resolved is an image before its layers.
type resolved struct {
	target   v1.Hash // what the reference named
	docs     []document
	manifest v1.Manifest
	config   *v1.ConfigFile
	raw      []byte // config
	platform v1.Platform
	chain    []v1.Hash
}

// maxNesting bounds indexes in indexes.
const maxNesting = 4

// resolve goes from the reference through indexes to a manifest, and reads its configuration. Each document is verified.
func resolve(ctx context.Context, src source, want v1.Platform) (*resolved, error) {
	doc, err := src.top(ctx, want)
	if err != nil {
		return nil, err
	}
	r := &resolved{target: doc.digest, platform: want}
	for range maxNesting {
		r.docs = append(r.docs, doc)
		index, err := parseDocument(doc.data, &r.manifest)
		if err != nil {
			return nil, err
		}
		if index == nil {
			return r, r.readConfig(ctx, src, want)
		}
		d, err := choose(index.Manifests, want)
		if err != nil {
			return nil, err
		}
		if doc, err = readChild(ctx, src, d); err != nil {
			return nil, err
		}
	}
	return nil, &LimitError{What: "nested indexes", Max: maxNesting}
}

func readChild(ctx context.Context, src source, d v1.Descriptor) (document, error) {
	if err := checkHash(d.Digest); err != nil {
		return document{}, err
	}
	if d.Size > MaxManifest {
		return document{}, &LimitError{What: "manifest bytes", Max: MaxManifest}
	}
	data, err := src.child(ctx, d)
	if err != nil {
		return document{}, err
	}
	return document{data, d.Digest}, verifyBytes(data, d.Digest)
}

// parseDocument tells a manifest from an index by what it contains, as media types are often missing or wrong. What
// could be read as both is refused (CVE-2021-41190).
func parseDocument(data []byte, m *v1.Manifest) (*v1.IndexManifest, error) {
	var has struct {
		Manifests, Layers, Config, FSLayers json.RawMessage
	}
	if err := json.Unmarshal(data, &has); err != nil {
		return nil, invalidf("manifest: %v", err)
	}
	switch {
	case has.FSLayers != nil:
		return nil, unsupportedf("manifest: Docker schema 1, which no registry has accepted since 2019")
	case has.Manifests != nil && (has.Layers != nil || has.Config != nil):
		return nil, invalidf("manifest: both an index and an image")
	case has.Manifests != nil:
		index := new(v1.IndexManifest)
		if err := json.Unmarshal(data, index); err != nil {
			return nil, invalidf("index: %v", err)
		}
		return index, nil
	case has.Config == nil:
		return nil, invalidf("manifest: neither an index nor an image")
	}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, invalidf("manifest: %v", err)
	}
	return nil, nil
}

// readConfig reads the configuration and checks that everything fits together.
func (r *resolved) readConfig(ctx context.Context, src source, want v1.Platform) error {
	switch t := r.manifest.Config.MediaType; t {
	case types.DockerConfigJSON, types.OCIConfigJSON, "":
	default:
		return invalidf("not a container image but an artifact of type %q", shorten(string(t)))
	}
	var err error
	if r.raw, err = readSmall(ctx, src, r.manifest.Config); err != nil {
		return err
	}
	r.config = new(v1.ConfigFile)
	if err := json.Unmarshal(r.raw, r.config); err != nil {
		return invalidf("configuration: %v", err)
	}
	have := v1.Platform{OS: r.config.OS, Architecture: r.config.Architecture, Variant: r.config.Variant}
	if !runs(have, want) {
		return &PlatformError{Want: platformString(want), Have: []string{platformString(have)}}
	}
	if have.OS != "" && have.Architecture != "" {
		r.platform = have
	}
	return r.checkLayers()
}

func (r *resolved) checkLayers() error {
	diffs := r.config.RootFS.DiffIDs
	if len(r.manifest.Layers) != len(diffs) {
		return invalidf("manifest has %d layers, its configuration %d", len(r.manifest.Layers), len(diffs))
	}
	if len(diffs) > MaxLayers {
		return &LimitError{What: "layers", Max: MaxLayers}
	}
	for i, d := range r.manifest.Layers {
		if err := errors.Join(checkHash(d.Digest), checkHash(diffs[i])); err != nil {
			return err
		}
		if d.Size < 0 {
			return invalidf("layer %s: size is negative", d.Digest)
		}
	}
	var err error
	r.chain, err = chainIDs(diffs)
	return err
}

// readSmall reads and verifies a blob that fits into memory.
func readSmall(ctx context.Context, src source, d v1.Descriptor) ([]byte, error) {
	if err := checkHash(d.Digest); err != nil {
		return nil, err
	}
	if d.Size > MaxManifest {
		return nil, &LimitError{What: "configuration bytes", Max: MaxManifest}
	}
	rc, err := src.blob(ctx, d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	data, err := readLimited(rc)
	if err != nil {
		return nil, err
	}
	return data, verifyBytes(data, d.Digest)
}

// readLimited reads a document.
func readLimited(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxManifest+1))
	if err == nil && len(data) > MaxManifest {
		err = &LimitError{What: "manifest bytes", Max: MaxManifest}
	}
	return data, err
}
