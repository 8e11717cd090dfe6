package image

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Store is a directory with images and their unpacked layers:
//
//	blobs/ALG/HEX                manifests, indexes and configurations, byte for byte; compressed layers that were made here
//	layers/ALG/HEX/fs            the tree of a layer, HEX being its diff id, or its chain id if the tree depends on the
//	                             layers below it (layer.json says which)
//	layers/ALG/HEX/layer.json    what unpacking found out
//	layers/ALG/HEX/synced        present once the tree is known to be on the disk
//	images/HEX.json              a reference (HEX is the SHA-256 of its normalised form) and its manifest for each platform
//	locks/NAME                   empty files for flock(2), one for each layer and reference
//	tmp/NAME                     a running operation's files; the directory is locked for as long as its owner lives
//
// Whatever stands in the first three was renamed there when it was complete. All directories are 0700: a layer has
// setuid programs, which nobody on the host shall be able to run; overlayfs looks at the mounter's rights only.
//
// A layer that is in use is locked as well, its directory itself (lease).
//
// All methods may be called concurrently, and any number of processes may use one directory. A Store holds no
// descriptor between calls but those of Hold, so it needs no Close.
type Store struct {
	dir    string
	boot   string // boot id, "" if unknown
	locks  keyed
	leases leases
}

var storeDirs = [...]string{"blobs", "layers", "images", "locks", "tmp"}

// Open opens the store in dir and creates it when there is none. What operations of dead processes left in tmp is removed.
func Open(dir string) (*Store, error) {
	s, err := openStore(dir)
	if err != nil {
		return nil, &Error{Op: "open", Object: dir, Err: err}
	}
	return s, nil
}

func openStore(dir string) (*Store, error) {
	if dir == "" {
		return nil, invalidf("directory is empty")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: abs, boot: bootID()}
	for _, d := range storeDirs {
		if err := os.MkdirAll(s.path(d), 0o700); err != nil {
			return nil, err
		}
	}
	return s, s.sweep()
}

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func (s *Store) blobPath(h v1.Hash) string { return s.path("blobs", h.Algorithm, h.Hex) }

func (s *Store) layerPath(h v1.Hash) string { return s.path("layers", h.Algorithm, h.Hex) }

// bootID tells one run of the kernel from another: what was written but not synced is whole as long as it is the same.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// checkHash guards everything that becomes a file name.
func checkHash(h v1.Hash) error {
	if _, err := v1.NewHash(h.String()); err != nil {
		return invalidf("digest %q: not a digest", shorten(h.String()))
	}
	return nil
}

// writeFile puts data at path whole or not at all, and onto the disk: a temporary file in the workspace is synced and
// renamed. The directory's own sync is left to Store.settle.
func (w *workspace) writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(w.path, "file-")
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// keepBlob moves a file, which is on the disk, to where the blob belongs.
func (s *Store) keepBlob(h v1.Hash, path string) error {
	to := s.blobPath(h)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	return os.Rename(path, to)
}

// readBlob reads a blob of the store and verifies it.
func (s *Store) readBlob(h v1.Hash) ([]byte, error) {
	if err := checkHash(h); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(s.blobPath(h))
	if err != nil {
		return nil, err
	}
	return data, verifyBytes(data, h)
}

func verifyBytes(data []byte, want v1.Hash) error {
	hasher, err := v1.Hasher(want.Algorithm)
	if err != nil {
		return unsupportedf("digest %s: unknown algorithm", want)
	}
	hasher.Write(data)
	if got := fmt.Sprintf("%s:%x", want.Algorithm, hasher.Sum(nil)); got != want.String() {
		return &VerifyError{Object: want.String(), What: "digest", Want: want.String(), Got: got}
	}
	return nil
}
