package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// load makes an Image of what the store has. Something missing is fs.ErrNotExist, and so is what a broken disk changed:
// a Pull mends it.
func (s *Store) load(ref string, rec recordImage) (*Image, error) {
	config, layers, err := s.loadLayers(rec.Manifest)
	if err != nil {
		return nil, err
	}
	return newImage(ref, rec, config, layers), nil
}

// loadLayers finds all that a manifest needs.
func (s *Store) loadLayers(manifest v1.Hash) (*v1.ConfigFile, []stored, error) {
	var m v1.Manifest
	if err := s.loadJSON(manifest, &m); err != nil {
		return nil, nil, err
	}
	config := new(v1.ConfigFile)
	if err := s.loadJSON(m.Config.Digest, config); err != nil {
		return nil, nil, err
	}
	diffs := config.RootFS.DiffIDs
	chain, err := chainIDs(diffs)
	if err != nil {
		return nil, nil, err
	}
	layers := make([]stored, len(diffs))
	for i, diff := range diffs {
		l, ok, err := s.findLayer(i, diff, chain[i])
		if err != nil {
			return nil, nil, err
		}
		if !ok {
			return nil, nil, missingf("layer %s: not in the store", diff)
		}
		layers[i] = l
	}
	return config, layers, nil
}

func (s *Store) loadJSON(h v1.Hash, v any) error {
	data, err := s.readBlob(h)
	var verify *VerifyError
	if errors.As(err, &verify) {
		return &kindError{kind: fs.ErrNotExist, text: "damaged", err: err}
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("blob %s: %w", h, err)
	}
	return nil
}

// visibleLayers leaves out what Image.Layers says.
func visibleLayers(layers []stored) []stored {
	var top []stored // topmost first
	seen := map[string]bool{}
	for i := len(layers) - 1; i >= 0; i-- {
		l := layers[i]
		if l.meta.Entries > 0 && !seen[l.dir] {
			seen[l.dir] = true
			top = append(top, l)
		}
		if l.meta.Opaque {
			break
		}
	}
	for i, j := 0, len(top)-1; i < j; i, j = i+1, j-1 {
		top[i], top[j] = top[j], top[i]
	}
	return top
}

func newImage(ref string, rec recordImage, config *v1.ConfigFile, layers []stored) *Image {
	img := &Image{
		Ref: ref, Digest: rec.Manifest.String(), Platform: rec.Platform, Config: newConfig(config.Config),
		Root: Root{Mode: 0o755}, source: rec.Source,
	}
	for _, l := range layers {
		if l.meta.Root != nil {
			img.Root = *l.meta.Root
		}
	}
	for _, l := range visibleLayers(layers) {
		img.Layers = append(img.Layers, Layer{DiffID: l.meta.DiffID.String(), Dir: l.fs(), Omitted: l.meta.Omitted})
	}
	return img
}

func newLayerMeta(diff v1.Hash, boot string, out unpacked) layerMeta {
	return layerMeta{DiffID: diff, Boot: boot, UID: os.Geteuid(), unpacked: out}
}

func mkdirs(paths ...string) error {
	for _, p := range paths {
		if err := os.Mkdir(p, 0o700); err != nil {
			return err
		}
	}
	return nil
}
