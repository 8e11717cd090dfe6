package sandbox

import (
	"context"

	"github.com/seed-5a9fb6e0/sandbox/image"
)

// CommitOptions are those of Sandbox.Commit; the zero value is useful.
type CommitOptions struct {
	Edit    func(*image.Config) // changes what the image says about running it; nil: as Options.Image does
	Author  string              // for the image's history; may be empty
	Comment string              // for the image's history; may be empty
}

// Commit makes an image of Options.Image and what was changed in the sandbox since, as docker commit does, and has ref stand
// for it in the Store: sandboxes with that Options.Image begin with these files, any number of them, in the time of every
// other image, and Store.Images has Push and Save for it. What commands change meanwhile is in the image or not, so let
// none run that minds. Not in it are what Mounts and the sandbox itself put there (/dev, /proc, /sys, and hosts, hostname and
// resolv.conf of /etc), extended attributes, and sockets. For an ordinary user all files of an image are root's, of this
// one too.
//
// Errors: errors.ErrUnsupported without an Options.Image or, for an ordinary user, with Limits.Disk, whose files are out of
// reach then; fs.ErrInvalid when there is a new file whose name begins with ".wh.", which no image can have; those of
// image.Store.Commit.
func (s *Sandbox) Commit(ctx context.Context, ref string, o CommitOptions) (*image.Image, error) {
	b, err := s.core.open(ctx)
	if err != nil {
		return nil, s.wrap("commit", err)
	}
	img, err := b.commit(ctx, ref, o)
	return img, s.wrap("commit", err)
}
