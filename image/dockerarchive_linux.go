package image

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// dockerArchive is what docker save writes. It has no manifest, so one is made that describes the files as they are: the
// image can be verified, and pushed, like any other.
type dockerArchive struct {
	files   *tarFiles
	want    name.Reference     // nil: the only image
	members map[v1.Hash]string // blobs by digest
}

// archiveImage is an image of manifest.json.
type archiveImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func openDockerArchive(ctx context.Context, r Reference) (source, error) {
	t, err := openTar(ctx, r.file)
	if err != nil {
		return nil, err
	}
	return &dockerArchive{files: t, want: r.ref, members: map[v1.Hash]string{}}, nil
}

func (a *dockerArchive) close() error { return a.files.close() }

func (a *dockerArchive) top(ctx context.Context, _ v1.Platform) (document, error) {
	img, err := a.find()
	if err != nil {
		return document{}, err
	}
	config, err := a.read(img.Config)
	if err != nil {
		return document{}, err
	}
	h, n, err := v1.SHA256(bytes.NewReader(config))
	if err != nil {
		return document{}, err
	}
	a.members[h] = img.Config
	m := v1.Manifest{
		SchemaVersion: 2, MediaType: types.DockerManifestSchema2,
		Config: v1.Descriptor{MediaType: types.DockerConfigJSON, Size: n, Digest: h},
		Layers: []v1.Descriptor{},
	}
	var cf v1.ConfigFile
	if err := json.Unmarshal(config, &cf); err != nil {
		return document{}, invalidf("configuration: %v", err)
	}
	if len(cf.RootFS.DiffIDs) != len(img.Layers) {
		return document{}, invalidf("manifest.json has %d layers, the configuration %d", len(img.Layers), len(cf.RootFS.DiffIDs))
	}
	for i, file := range img.Layers {
		d, err := a.describe(ctx, file, cf.RootFS.DiffIDs[i])
		if err != nil {
			return document{}, err
		}
		a.members[d.Digest] = file
		m.Layers = append(m.Layers, d)
	}
	data, err := json.Marshal(m)
	if err != nil {
		return document{}, err
	}
	return newDocument(data)
}

// describe makes a layer's descriptor. The digest of an uncompressed one, which nearly all are, is its diff id; others
// are read once for it.
func (a *dockerArchive) describe(ctx context.Context, file string, diff v1.Hash) (v1.Descriptor, error) {
	f, size, err := a.files.open(file)
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer f.Close()
	d := v1.Descriptor{MediaType: types.DockerUncompressedLayer, Size: size, Digest: diff}
	r := bufio.NewReader(f)
	head, err := r.Peek(6)
	if err != nil && err != io.EOF {
		return d, err
	}
	if isCompressed(head) {
		d.MediaType = types.DockerLayer
		d.Digest, _, err = v1.SHA256(&contextReader{ctx, r})
		return d, err
	}
	return d, nil
}

func (a *dockerArchive) find() (archiveImage, error) {
	data, err := a.read("manifest.json")
	if err != nil {
		return archiveImage{}, fmt.Errorf("docker archive: %w", err)
	}
	var list []archiveImage
	if err := json.Unmarshal(data, &list); err != nil {
		return archiveImage{}, invalidf("manifest.json: %v", err)
	}
	var have []string
	for _, img := range list {
		for _, tag := range img.RepoTags {
			have = append(have, tag)
			if r, err := parseName(tag); err == nil && a.want != nil && r.Name() == a.want.Name() {
				return img, nil
			}
		}
	}
	if a.want == nil && len(list) == 1 {
		return list[0], nil
	}
	if a.want == nil {
		return archiveImage{}, missingf("docker archive of %d images: name one of %q", len(list), have)
	}
	return archiveImage{}, missingf("docker archive has no %q; there is: %q", familiar(a.want), have)
}

func (a *dockerArchive) read(file string) ([]byte, error) {
	f, _, err := a.files.open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLimited(f)
}

func (a *dockerArchive) child(context.Context, v1.Descriptor) ([]byte, error) {
	return nil, invalidf("docker archive: no indexes")
}

func (a *dockerArchive) blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	if len(a.members) == 0 { // it is read for this blob alone
		if _, err := a.top(ctx, v1.Platform{}); err != nil {
			return nil, err
		}
	}
	file, ok := a.members[d.Digest]
	if !ok {
		return nil, missingf("blob %s: not in the archive", d.Digest)
	}
	f, _, err := a.files.open(file)
	return f, err
}
