package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// layerMeta is layer.json.
type layerMeta struct {
	DiffID v1.Hash
	Boot   string // boot in which it was unpacked; it counts in that boot only, until "synced" stands beside it
	UID    int    // effective user that unpacked it; only 0 keeps owners
	unpacked
}

// unpacked is what unpacking a layer found out.
type unpacked struct {
	Entries int64
	Bytes   int64
	// Dependent: the tree was made with a look at the layers below (an implied parent directory, a hard link to their
	// file, a whiteout), so it is right above those only.
	Dependent bool
	Opaque    bool     // the layers below are not seen at all
	Root      *Root    // from the archive's entry for "/", nil without one
	Omitted   []string // see Layer.Omitted
}

// stored is a layer that is in the store.
type stored struct {
	meta layerMeta
	dir  string // layers/ALG/HEX
}

func (l stored) fs() string { return filepath.Join(l.dir, "fs") }

// chainIDs are the OCI image specification's: the identity of a layer together with all below it.
func chainIDs(diffs []v1.Hash) ([]v1.Hash, error) {
	chain := slices.Clone(diffs)
	for i := 1; i < len(chain); i++ {
		h, _, err := v1.SHA256(bytes.NewReader([]byte(chain[i-1].String() + " " + diffs[i].String())))
		if err != nil {
			return nil, err
		}
		chain[i] = h
	}
	return chain, nil
}

// findLayer looks for layer i of a chain: under its diff id if its tree is right anywhere, else under its chain id.
func (s *Store) findLayer(i int, diff, chain v1.Hash) (stored, bool, error) {
	l, ok, err := s.readLayer(diff)
	if err != nil || (ok && (i == 0 || !l.meta.Dependent)) {
		return l, ok, err
	}
	return s.readLayer(chain)
}

func (s *Store) readLayer(key v1.Hash) (stored, bool, error) {
	l := stored{dir: s.layerPath(key)}
	data, err := os.ReadFile(filepath.Join(l.dir, "layer.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return l, false, nil
	}
	if err != nil {
		return l, false, err
	}
	if err := json.Unmarshal(data, &l.meta); err != nil {
		return l, false, nil // a crash of the machine can leave this: unpack again
	}
	if s.boot != "" && l.meta.Boot == s.boot {
		return l, true, nil
	}
	synced, err := l.synced()
	return l, synced, err
}

func (l stored) synced() (bool, error) {
	_, err := os.Lstat(filepath.Join(l.dir, "synced"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// publish moves a tree that stands in the workspace into the store, with a lease, so that no Prune comes before the
// caller. That holds the key's lock.
func (s *Store) publish(w *workspace, tree string, key v1.Hash, meta layerMeta) (l stored, release func(), err error) {
	l = stored{meta: meta, dir: s.layerPath(key)}
	f, err := lockDir(tree, unix.LOCK_SH)
	if err != nil {
		return l, nil, err
	}
	if err := s.place(w, tree, l); err != nil {
		f.Close()
		return l, nil, err
	}
	return l, s.adopt(l.dir, f), nil
}

// place writes what is known of a layer and moves its tree to where it belongs.
func (s *Store) place(w *workspace, tree string, l stored) error {
	data, err := json.MarshalIndent(l.meta, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tree, "layer.json"), append(data, '\n'), 0o600); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(l.dir), 0o700); err != nil {
		return err
	}
	// What stands there already was found wanting by readLayer.
	trash := filepath.Join(w.path, "old-"+filepath.Base(l.dir))
	if err := os.Rename(l.dir, trash); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(tree, l.dir)
}

// settle brings layers to the disk before a reference to them is: one syncfs(2) for all that an operation unpacked, as
// an fsync of each of 13,000 files takes minutes. The marks need no sync of their own: a lost one costs an unpack.
func (s *Store) settle(layers []stored) error {
	var fresh []stored
	for _, l := range layers {
		ok, err := l.synced()
		if err != nil {
			return err
		}
		if !ok {
			fresh = append(fresh, l)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	dir, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("syncfs %q: %w", s.dir, err)
	}
	for _, l := range fresh {
		if err := os.WriteFile(filepath.Join(l.dir, "synced"), nil, 0o600); err != nil {
			return err
		}
	}
	return nil
}
