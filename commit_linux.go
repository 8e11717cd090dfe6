package sandbox

import (
	"context"
	"io"
	"os"
	"path/filepath"

	"github.com/seed-5a9fb6e0/sandbox/image"
	"github.com/seed-5a9fb6e0/sandbox/internal/world"
	"github.com/seed-5a9fb6e0/sandbox/rootfs"
)

// commit makes an image of the upper layer.
func (b *box) commit(ctx context.Context, ref string, o CommitOptions) (*image.Image, error) {
	switch {
	case b.image == nil:
		return nil, &world.Unsupported{What: "a commit of a sandbox without an image",
			Remedy: "give it an Options.Image; Root's CopyOut takes files of every sandbox"}
	case b.opts.Limits.Disk > 0:
		return nil, &world.Unsupported{What: "a commit of changes in memory", Remedy: "leave Limits.Disk out; Root's CopyOut takes files of every sandbox"}
	}
	upper, err := os.Open(filepath.Join(b.upper, "upper"))
	if err != nil {
		return nil, err
	}
	defer upper.Close()
	ids := b.user.ids
	root := rootfs.NewRoot(upper, b.world.UserNS(), ids.UIDs[0].Inside, ids.GIDs[0].Inside)
	layer, to := io.Pipe()
	done := make(chan struct{})
	go func() { // ends when the reader closes
		defer close(done)
		to.CloseWithError(root.CopyLayer(ctx, to, b.notOfTheImage()))
	}()
	img, err := b.store.images.Commit(ctx, ref, image.CommitOptions{Base: b.image, Layer: layer, Edit: o.Edit, Author: o.Author, Comment: o.Comment})
	layer.CloseWithError(os.ErrClosed)
	<-done
	return img, err
}

// notOfTheImage says what of the upper layer was put there by us.
func (b *box) notOfTheImage() func(name string) bool {
	ours := map[string]bool{}
	for _, name := range world.Skeleton() {
		ours[name] = true
	}
	for _, m := range b.opts.Mounts {
		ours[m.Target[1:]] = true
	}
	return func(name string) bool { return ours[name] }
}
