package sandbox

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/seed-5a9fb6e0/sandbox/image"
	"github.com/seed-5a9fb6e0/sandbox/internal/world"
)

// commit makes an image of the upper layer.
func (b *box) commit(ctx context.Context, ref string, o CommitOptions) (*image.Image, error) {
	if b.image == nil {
		return nil, &world.Unsupported{What: "a commit of a sandbox without an image",
			Remedy: "give it an Options.Image; Root's CopyOut takes files of every sandbox"}
	}
	layer, done, err := b.layer(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return b.store.images.Commit(ctx, ref, image.CommitOptions{Base: b.image, Layer: layer, Edit: o.Edit, Author: o.Author, Comment: o.Comment})
}

// layer reads what was changed as a layer of an image, until done is called.
func (b *box) layer(ctx context.Context) (_ io.Reader, done func(), err error) {
	switch {
	case b.upper == "":
		return nil, nil, &world.Unsupported{What: "the changes of a sandbox without layers", Remedy: "give it an Options.Image or Rootfs"}
	case b.opts.Limits.Disk > 0 && b.changes == nil:
		return nil, nil, &world.Unsupported{What: "the changes of an ordinary user's sandbox that has them in memory", Remedy: "leave Limits.Disk out, or run as root"}
	}
	name := filepath.Join(b.upper, "upper")
	if b.changes != nil {
		name = fmt.Sprintf("/proc/self/fd/%d", b.changes.Fd())
	}
	upper, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	root := b.rootAt(upper)
	from, to := io.Pipe()
	over := make(chan struct{})
	go func() { // ends when done closes the other end
		defer close(over)
		to.CloseWithError(root.CopyLayer(ctx, to, b.notOfTheImage()))
	}()
	return from, func() {
		from.CloseWithError(os.ErrClosed)
		<-over
		upper.Close()
	}, nil
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
