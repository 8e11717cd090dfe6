package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// layoutSource is an OCI image layout (image-layout.md), in a directory or a tar file.
type layoutSource struct {
	files files
	tag   string
}

func openLayoutDir(r Reference) (source, error) {
	root, err := os.OpenRoot(r.file)
	if err != nil {
		return nil, err
	}
	return &layoutSource{files: dirFiles{root}, tag: r.tag}, nil
}

func openLayoutArchive(ctx context.Context, r Reference) (source, error) {
	t, err := openTar(ctx, r.file)
	if err != nil {
		return nil, err
	}
	return &layoutSource{files: t, tag: r.tag}, nil
}

func (l *layoutSource) close() error { return l.files.close() }

func (l *layoutSource) read(name string) ([]byte, error) {
	f, _, err := l.files.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLimited(f)
}

// refNames are the annotations in which a layout's index names its images.
var refNames = [...]string{"org.opencontainers.image.ref.name", "io.containerd.image.name"}

// top picks the manifest or index of the tag. Without a tag, or with one that several have, the platform decides.
func (l *layoutSource) top(ctx context.Context, want v1.Platform) (document, error) {
	data, err := l.read("index.json")
	if err != nil {
		return document{}, fmt.Errorf("layout: %w", err)
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(data, &index); err != nil {
		return document{}, invalidf("index.json: %v", err)
	}
	list := index.Manifests
	if l.tag != "" {
		if list = tagged(list, l.tag); len(list) == 0 {
			return document{}, missingf("layout has no %q; there is: %s", l.tag, names(index.Manifests))
		}
	}
	switch len(list) {
	case 0:
		return document{}, missingf("layout is empty")
	case 1:
		return readChild(ctx, l, list[0])
	}
	d, err := choose(list, want)
	if err != nil {
		return document{}, fmt.Errorf("layout with %d images, tags %s: %w", len(list), names(list), err)
	}
	return readChild(ctx, l, d)
}

func tagged(list []v1.Descriptor, tag string) []v1.Descriptor {
	var found []v1.Descriptor
	for _, d := range list {
		for _, key := range refNames {
			if d.Annotations[key] == tag {
				found = append(found, d)
				break
			}
		}
	}
	return found
}

func names(list []v1.Descriptor) string {
	var tags []string
	for _, d := range list {
		if t := d.Annotations[refNames[0]]; t != "" {
			tags = append(tags, fmt.Sprintf("%q", shorten(t)))
		}
	}
	if len(tags) == 0 {
		return "none"
	}
	return strings.Join(tags, ", ")
}

func (l *layoutSource) child(_ context.Context, d v1.Descriptor) ([]byte, error) {
	return l.read(blobName(d.Digest))
}

func (l *layoutSource) blob(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	f, _, err := l.files.open(blobName(d.Digest))
	return f, err
}

func blobName(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }
