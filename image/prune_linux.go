package image

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// Pruned is what a Prune removed.
type Pruned struct {
	Layers int   // unpacked layers
	Bytes  int64 // of the files of those
	Blobs  int   // manifests, indexes, configurations and compressed layers
}

// pruneBatch is how many layers are locked at a time.
const pruneBatch = 256

// Prune removes the layers and documents that no reference of the store leads to (see Remove), but for layers that
// somebody holds (see Hold) or is pulling, in whatever process. It may run at any time, also several times at once. A
// record of a reference that can't be read is an error, before anything is removed: nobody knows what it leads to.
func (s *Store) Prune(ctx context.Context) (Pruned, error) {
	var p Pruned
	err := s.prune(ctx, &p)
	if err != nil {
		err = &Error{Op: "prune", Object: s.dir, Err: err}
	}
	return p, err
}

func (s *Store) prune(ctx context.Context, p *Pruned) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	w, err := s.newWorkspace()
	if err != nil {
		return err
	}
	err = s.pruneLayers(ctx, w, p)
	if err == nil {
		err = s.pruneBlobs(ctx, p)
	}
	if err == nil {
		err = s.pruneLocks()
	}
	return errors.Join(err, w.close()) // which removes the layers that were moved there
}

func (s *Store) pruneLayers(ctx context.Context, w *workspace, p *Pruned) error {
	all, err := filepath.Glob(s.path("layers", "*", "*"))
	if err != nil {
		return err
	}
	used, err := s.reachable(ctx)
	if err != nil {
		return err
	}
	var idle []string
	for _, dir := range all {
		if !used[dir] {
			idle = append(idle, dir)
		}
	}
	for len(idle) > 0 {
		n := min(len(idle), pruneBatch)
		if err := s.pruneBatch(ctx, w, idle[:n], p); err != nil {
			return err
		}
		idle = idle[n:]
	}
	return nil
}

// pruneBatch removes those of the layers that nobody uses. A Pull holds what it has found or made until the reference to it
// is written: so what can be locked, and is not reachable after that, is not wanted by one that began before; one that
// begins now waits, and then finds it gone.
func (s *Store) pruneBatch(ctx context.Context, w *workspace, dirs []string, p *Pruned) error {
	var locked []*os.File
	defer func() {
		for _, f := range locked {
			f.Close()
		}
	}()
	for _, dir := range dirs {
		f, err := lockDir(dir, unix.LOCK_EX)
		switch {
		case err == nil:
			locked = append(locked, f)
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	used, err := s.reachable(ctx)
	if err != nil {
		return err
	}
	for _, f := range locked {
		if used[f.Name()] {
			continue
		}
		size := s.layerBytes(f.Name())
		err := os.Rename(f.Name(), filepath.Join(w.path, "layer-"+filepath.Base(f.Name())))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a Pull found it damaged
		}
		if err != nil {
			return err
		}
		p.Layers++
		p.Bytes += size
	}
	return nil
}

// layerBytes is 0 for a layer of which that can't be read.
func (s *Store) layerBytes(dir string) int64 {
	alg, hex := filepath.Base(filepath.Dir(dir)), filepath.Base(dir)
	l, _, err := s.readLayer(v1.Hash{Algorithm: alg, Hex: hex})
	if err != nil {
		return 0
	}
	return l.meta.Bytes
}

// pruneLocks removes the files of locks that nobody holds. Who opened one and finds it gone makes another (tryLock).
func (s *Store) pruneLocks() error {
	all, err := filepath.Glob(s.path("locks", "layer-*"))
	for _, path := range all {
		if f, err := tryLock(path); err == nil { // else it is in use
			_ = os.Remove(path)
			f.Close()
		}
	}
	return err
}

// pruneBlobs removes documents. A Pull writes them and the reference to them under the shared lock.
func (s *Store) pruneBlobs(ctx context.Context, p *Pruned) error {
	unlock, err := s.lockBlobs(ctx, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	used, err := s.reachable(ctx)
	if err != nil {
		return err
	}
	all, err := filepath.Glob(s.path("blobs", "*", "*"))
	if err != nil {
		return err
	}
	for _, path := range all {
		if used[path] {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		p.Blobs++
	}
	return nil
}

// lockBlobs locks all blobs, shared or not.
func (s *Store) lockBlobs(ctx context.Context, how int) (unlock func(), err error) {
	f, err := os.OpenFile(s.path("locks", "blobs"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := flock(f, how|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, err
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// reachable are the paths of the layers and blobs that references lead to. Of an image that is incomplete that is as much as
// can be told.
func (s *Store) reachable(ctx context.Context) (map[string]bool, error) {
	records, err := filepath.Glob(s.path("images", "*.json"))
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, path := range records {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		r, err := s.readRecord(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since
		}
		if err != nil {
			return nil, err
		}
		for _, i := range r.Images {
			if err := s.mark(used, i); err != nil {
				return nil, err
			}
		}
	}
	return used, nil
}

// mark notes what an image consists of.
func (s *Store) mark(used map[string]bool, i recordImage) error {
	for _, h := range []v1.Hash{i.Manifest, i.Target} {
		if checkHash(h) == nil {
			used[s.blobPath(h)] = true
		}
	}
	var m v1.Manifest
	var c v1.ConfigFile
	err := s.loadJSON(i.Manifest, &m)
	for _, d := range m.Layers {
		if checkHash(d.Digest) == nil {
			used[s.blobPath(d.Digest)] = true
		}
	}
	if err == nil && checkHash(m.Config.Digest) == nil {
		used[s.blobPath(m.Config.Digest)] = true
		err = s.loadJSON(m.Config.Digest, &c)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	chain, err := chainIDs(c.RootFS.DiffIDs)
	if err != nil {
		return err
	}
	for n, h := range c.RootFS.DiffIDs {
		used[s.layerPath(h)], used[s.layerPath(chain[n])] = true, true
	}
	return nil
}
