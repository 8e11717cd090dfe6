package image

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// record is images/HEX.json: what a reference stood for when it was last pulled, for each platform.
type record struct {
	Ref    string
	Images []recordImage
}

type recordImage struct {
	Platform string  // of the image
	Asked    string  // platform that was asked for
	Manifest v1.Hash // for the platform
	Target   v1.Hash // what the reference named: the manifest, or the index that has it
	Source   string  // reference that its compressed layers can be had by, if the store has not kept them
}

func refID(ref string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(ref))) }

func (s *Store) recordPath(ref string) string { return s.path("images", refID(ref)+".json") }

func (s *Store) readRecord(path string) (*record, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missingf("not in the store")
	}
	if err != nil {
		return nil, err
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("record %q: %w", path, err)
	}
	return &r, nil
}

// find picks the image for a platform that was asked for.
func (r *record) find(platform string) (recordImage, bool) {
	for _, i := range r.Images {
		if i.Asked == platform || i.Platform == platform {
			return i, true
		}
	}
	return recordImage{}, false
}

func (r *record) set(img recordImage) {
	for i := range r.Images {
		if r.Images[i].Asked == img.Asked {
			r.Images[i] = img
			return
		}
	}
	r.Images = append(r.Images, img)
}

// writeRecord notes what ref stands for. The layers and blobs are on the disk by then.
func (s *Store) writeRecord(ctx context.Context, w *workspace, ref string, img recordImage) error {
	unlock, err := s.lock(ctx, "ref-"+refID(ref))
	if err != nil {
		return err
	}
	defer unlock()
	r, err := s.readRecord(s.recordPath(ref))
	if err != nil {
		// None yet, or one that a broken disk left: this one replaces it.
		r = &record{}
	}
	r.Ref = ref
	r.set(img)
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return w.writeFile(s.recordPath(ref), append(data, '\n'))
}

// Image gives an image of the store by its reference, without a look at any registry: the one for this program's
// platform, or the only one there is. It is fs.ErrNotExist when the store lacks it or one of its layers.
func (s *Store) Image(ctx context.Context, ref string) (*Image, error) {
	img, err := s.image(ctx, ref)
	if err != nil {
		return nil, &Error{Op: "image", Object: shorten(ref), Err: err}
	}
	return img, nil
}

func (s *Store) image(ctx context.Context, ref string) (*Image, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	parsed, err := parseReference(ref)
	if err != nil {
		return nil, err
	}
	r, err := s.readRecord(s.recordPath(parsed.String()))
	if err != nil {
		return nil, err
	}
	host, err := parsePlatform("")
	if err != nil {
		return nil, err
	}
	if len(r.Images) == 1 {
		return s.load(r.Ref, r.Images[0])
	}
	i, ok := r.find(platformString(host))
	if !ok {
		return nil, &PlatformError{Want: platformString(host), Have: r.platforms()}
	}
	return s.load(r.Ref, i)
}

func (r *record) platforms() []string {
	var p []string
	for _, i := range r.Images {
		p = append(p, i.Platform)
	}
	return p
}

// Images lists the images of the store, by reference and platform. One that lacks a layer is left out: a Pull completes it.
func (s *Store) Images(ctx context.Context) ([]*Image, error) {
	paths, err := filepath.Glob(s.path("images", "*.json"))
	if err != nil {
		return nil, &Error{Op: "images", Object: s.dir, Err: err}
	}
	var list []*Image
	for _, path := range paths {
		if ctx.Err() != nil {
			return nil, &Error{Op: "images", Object: s.dir, Err: context.Cause(ctx)}
		}
		r, err := s.readRecord(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since
		}
		if err != nil {
			return nil, &Error{Op: "images", Object: s.dir, Err: err}
		}
		for _, i := range r.Images {
			img, err := s.load(r.Ref, i)
			if err == nil {
				list = append(list, img)
			} else if !errors.Is(err, fs.ErrNotExist) {
				return nil, &Error{Op: "images", Object: r.Ref, Err: err}
			}
		}
	}
	sort.Slice(list, func(i, j int) bool {
		return strings.Compare(list[i].Ref+" "+list[i].Platform, list[j].Ref+" "+list[j].Platform) < 0
	})
	return list, nil
}

// Remove forgets a reference, for all platforms. Its layers stay until a Prune that finds nobody who needs them.
// A reference that the store lacks is fs.ErrNotExist.
func (s *Store) Remove(ctx context.Context, ref string) error {
	if err := s.remove(ctx, ref); err != nil {
		return &Error{Op: "remove", Object: shorten(ref), Err: err}
	}
	return nil
}

func (s *Store) remove(ctx context.Context, ref string) error {
	parsed, err := parseReference(ref)
	if err != nil {
		return err
	}
	unlock, err := s.lock(ctx, "ref-"+refID(parsed.String()))
	if err != nil {
		return err
	}
	defer unlock()
	err = os.Remove(s.recordPath(parsed.String()))
	if errors.Is(err, fs.ErrNotExist) {
		return missingf("not in the store")
	}
	return err
}
