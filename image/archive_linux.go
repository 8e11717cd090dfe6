package image

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// files are the members of a layout or archive.
type files interface {
	// open gives a member and its size. A missing one is fs.ErrNotExist.
	open(name string) (io.ReadCloser, int64, error)
	close() error
}

// dirFiles are those of a directory, from which the kernel lets no name escape.
type dirFiles struct{ root *os.Root }

func (d dirFiles) open(name string) (io.ReadCloser, int64, error) {
	// Not to hang on a fifo that somebody put there.
	f, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = invalidf("%s: not a regular file", name)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, st.Size(), nil
}

func (d dirFiles) close() error { return d.root.Close() }

// tarFiles are the members of an uncompressed tar file, found once and then read in any order and concurrently.
type tarFiles struct {
	f       *os.File
	members map[string]member
}

type member struct {
	off, size int64
	link      string // of a symbolic or hard link: the target's name
}

func openTar(ctx context.Context, file string) (*tarFiles, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	t := &tarFiles{f: f, members: map[string]member{}}
	if err := t.index(ctx); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return t, nil
}

func (t *tarFiles) index(ctx context.Context) error {
	st, err := t.f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return invalidf("archive: not a regular file")
	}
	if err := checkTar(t.f); err != nil {
		return err
	}
	// The reader keeps no buffer, so that after Next the file stands at the member's data, and skips by seeking.
	r := tar.NewReader(t.f)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return asInvalid(err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if len(t.members) > MaxEntries {
			return &LimitError{What: "archive members", Max: MaxEntries}
		}
		if err := t.add(h); err != nil {
			return err
		}
	}
}

// checkTar tells a compressed archive, which can't be read in any order, from a broken one.
func checkTar(r io.ReaderAt) error {
	head := make([]byte, 6)
	n, err := r.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return err
	}
	if isCompressed(head[:n]) {
		return unsupportedf("archive is compressed; decompress it first")
	}
	return nil
}

func (t *tarFiles) add(h *tar.Header) error {
	name := path.Clean("/" + h.Name)[1:]
	switch h.Typeflag {
	case tar.TypeReg:
		off, err := t.f.Seek(0, io.SeekCurrent)
		t.members[name] = member{off: off, size: h.Size}
		return err
	case tar.TypeSymlink: // docker save wrote the second copy of a layer as ../ID/layer.tar
		t.members[name] = member{link: path.Join("/", path.Dir(name), h.Linkname)[1:]}
	case tar.TypeLink:
		t.members[name] = member{link: path.Clean("/" + h.Linkname)[1:]}
	}
	return nil
}

func (t *tarFiles) open(name string) (io.ReadCloser, int64, error) {
	m, ok := t.members[path.Clean("/" + name)[1:]]
	for range maxLinks {
		if !ok || m.link == "" {
			break
		}
		m, ok = t.members[m.link]
	}
	if !ok || m.link != "" {
		return nil, 0, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(io.NewSectionReader(t.f, m.off, m.size)), m.size, nil
}

func (t *tarFiles) close() error { return t.f.Close() }
