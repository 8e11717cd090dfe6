//go:build linux

package image

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	it "github.com/seed-5a9fb6e0/sandbox/internal/imagetest"
)

// BenchmarkUnpack compares verifying and unpacking a layer of 4,000 files, 40 MB, with tar(1) doing only the latter. Nothing
// is deleted between runs, which would make ext4 slower. Use TMPDIR to choose the file system.
func BenchmarkUnpack(b *testing.B) {
	var list entries
	for d := range 200 {
		list = append(list, it.Dir(fmt.Sprintf("usr/d%d/", d), 0o755))
		for f := range 20 {
			data := noise(2<<10) + strings.Repeat(fmt.Sprintf("line %d of some text\n", f), 400)
			list = append(list, it.File(fmt.Sprintf("usr/d%d/f%d", d, f), data, 0o644))
		}
	}
	archive := it.Tar(b, list...)
	for name, blob := range map[string][]byte{"gzip": it.Gzip(b, archive), "zstd": it.Zstd(b, archive)} {
		file := filepath.Join(b.TempDir(), "layer")
		require.NoError(b, os.WriteFile(file, blob, 0o600))
		b.Run(name+"/image", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(archive)))
			dir := b.TempDir()
			digest, size, err := v1.SHA256(bytes.NewReader(blob))
			require.NoError(b, err)
			diff, _, err := v1.SHA256(bytes.NewReader(archive))
			require.NoError(b, err)
			for i := 0; b.Loop(); i++ {
				require.NoError(b, unpackBlob(filepath.Join(dir, strconv.Itoa(i)), blob, v1.Descriptor{Digest: digest, Size: size}, diff))
			}
		})
		b.Run(name+"/tar", func(b *testing.B) {
			b.SetBytes(int64(len(archive)))
			dir := b.TempDir()
			for i := 0; b.Loop(); i++ {
				to := filepath.Join(dir, strconv.Itoa(i))
				require.NoError(b, os.Mkdir(to, 0o700))
				require.NoError(b, exec.Command("tar", "-C", to, "--"+name, "-xf", file).Run())
			}
		})
	}
}

func unpackBlob(dir string, blob []byte, desc v1.Descriptor, diff v1.Hash) error {
	if err := mkdirs(dir, dir+"/trash"); err != nil {
		return err
	}
	ctx := context.Background()
	st, err := newStream(ctx, bytes.NewReader(blob), desc, diff, MaxBytes)
	if err != nil {
		return err
	}
	none := func(context.Context) ([]string, error) { return nil, nil }
	_, err = unpack(ctx, dir+"/fs", st, unpackOptions{below: none, trash: dir + "/trash"})
	return st.finish(err)
}
