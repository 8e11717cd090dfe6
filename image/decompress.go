package image

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

var (
	gzipMagic  = []byte{0x1f, 0x8b}
	zstdMagic  = []byte{0x28, 0xb5, 0x2f, 0xfd}
	bzip2Magic = []byte("BZh")
	xzMagic    = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
)

// decompress looks at the first bytes, not at the media type, which many images have wrong.
func decompress(r *bufio.Reader) (io.ReadCloser, error) {
	head, err := r.Peek(6)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		return newGzip(r)
	case bytes.HasPrefix(head, zstdMagic) || skippable(head):
		return newZstd(r)
	case bytes.HasPrefix(head, xzMagic):
		return nil, unsupportedf("compression xz")
	case bytes.HasPrefix(head, bzip2Magic):
		return nil, unsupportedf("compression bzip2")
	}
	return io.NopCloser(r), nil
}

// isCompressed goes by the same bytes.
func isCompressed(head []byte) bool {
	for _, magic := range [][]byte{gzipMagic, zstdMagic, xzMagic, bzip2Magic} {
		if bytes.HasPrefix(head, magic) {
			return true
		}
	}
	return skippable(head)
}

// skippable reports whether a zstd skippable frame begins here (RFC 8878, section 3.1.2).
func skippable(b []byte) bool {
	return len(b) >= 4 && b[0]&0xf0 == 0x50 && b[1] == 0x2a && b[2] == 0x4d && b[3] == 0x18
}

// newZstd decodes in the goroutine that reads, as layers already run in parallel, and bounds the window's memory.
func newZstd(r io.Reader) (io.ReadCloser, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(MaxWindow))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

// gzipReader reads all members of a gzip file (RFC 1952, section 2.2) and, as gzip(1), ignores zeros after the last:
// the multistream mode of the library takes them for a broken header.
type gzipReader struct {
	src *bufio.Reader
	z   *gzip.Reader
	err error
}

func newGzip(r *bufio.Reader) (io.ReadCloser, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	z.Multistream(false)
	return &gzipReader{src: r, z: z}, nil
}

func (g *gzipReader) Read(p []byte) (int, error) {
	for g.err == nil {
		n, err := g.z.Read(p)
		if err == io.EOF {
			err = g.next()
		}
		g.err = err
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
	return 0, g.err
}

// next goes to the next member; io.EOF says that there is none.
func (g *gzipReader) next() error {
	head, err := g.src.Peek(2)
	switch {
	case len(head) == 0 && err == io.EOF:
		return io.EOF
	case err != nil && err != io.EOF:
		return err
	case head[0] == 0:
		return zeros(g.src)
	}
	if err := g.z.Reset(g.src); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	g.z.Multistream(false)
	return nil
}

func (g *gzipReader) Close() error { return g.z.Close() }

var errTrailing = errors.New("gzip: garbage after the last member")

// zeros reads to the end, which it reports as io.EOF.
func zeros(r *bufio.Reader) error {
	for {
		buf, err := r.Peek(max(1, r.Buffered()))
		for _, b := range buf {
			if b != 0 {
				return errTrailing
			}
		}
		if _, derr := r.Discard(len(buf)); derr != nil {
			return derr
		}
		if err != nil {
			return err
		}
	}
}
