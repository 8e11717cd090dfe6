//go:build linux

package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"testing/fstest"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"

	"github.com/seed-5a9fb6e0/sandbox/image"
	"github.com/seed-5a9fb6e0/sandbox/internal/imagetest"
)

// An image from an OCI layout. A registry's would be "alpine:3.20" or "localhost:5000/app@sha256:…".
func Example() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	writeLayout(filepath.Join(dir, "layout"))

	store, err := image.Open(filepath.Join(dir, "store"))
	if err != nil {
		log.Fatal(err)
	}
	img, err := store.Pull(context.Background(), "oci:"+filepath.Join(dir, "layout")+":1.0", image.PullOptions{})
	if err != nil {
		log.Fatal(err)
	}
	motd, err := os.ReadFile(filepath.Join(img.Layers[0].Dir, "etc/motd"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d layer, %s", len(img.Layers), motd)
	// Output: 1 layer, welcome
}

// An image made of files at hand, saved for others to load.
func ExampleStore_Commit() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := image.Open(filepath.Join(dir, "store"))
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	var layer bytes.Buffer
	archive := tar.NewWriter(&layer)
	if err := errors.Join(archive.AddFS(fstest.MapFS{"greeting": {Data: []byte("hello"), Mode: 0o644}}), archive.Close()); err != nil {
		log.Fatal(err)
	}
	_, err = store.Commit(ctx, "hello:1", image.CommitOptions{Layer: &layer, Edit: func(c *image.Config) { c.Cmd = []string{"/bin/sh"} }})
	fmt.Println(err)

	file, err := os.Create(filepath.Join(dir, "hello.tar"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(store.Save(ctx, "hello:1", file), file.Close())
	loaded, err := store.Pull(ctx, "oci-archive:"+file.Name(), image.PullOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(loaded.Config.Cmd, len(loaded.Layers))
	used, err := store.Usage(ctx)
	fmt.Println(used[0].Ref, used[0].Bytes, err)
	// Output:
	// <nil>
	// <nil> <nil>
	// [/bin/sh] 1
	// docker.io/library/hello:1 5 <nil>
}

func ExampleParseReference() {
	ref, err := image.ParseReference("alpine")
	fmt.Println(ref, err)
	_, err = image.ParseReference("Not/Valid")
	fmt.Println(errors.Is(err, fs.ErrInvalid))
	// Output:
	// docker.io/library/alpine:latest <nil>
	// true
}

func ExampleStore_Image() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := image.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	_, err = store.Image(context.Background(), "alpine:3.20")
	fmt.Println(err, errors.Is(err, fs.ErrNotExist))
	// Output: image "alpine:3.20": not in the store true
}

// writeLayout makes a layout of one image, tagged 1.0.
func writeLayout(dir string) {
	archive := imagetest.Archive(imagetest.File("etc/motd", "welcome\n", 0o644))
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer(archive, "application/vnd.oci.image.layer.v1.tar"))
	if err != nil {
		log.Fatal(err)
	}
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		log.Fatal(err)
	}
	if err := path.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "1.0"})); err != nil {
		log.Fatal(err)
	}
}
