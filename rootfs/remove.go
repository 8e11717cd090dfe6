package rootfs

import (
	"context"
	"path/filepath"
)

// Remove deletes the directory dir and everything in it, as a sandbox that may have been hostile left it: an upper layer,
// a work directory. It works on descriptors and never follows a symbolic link below dir's parent, nor crosses into another
// mount: dir itself or a directory in it that is a mount point is an error
// (EBUSY). Paths may be longer than PATH_MAX,
// directories huge or without permissions; attributes that forbid deletion (chattr +i, +a) are cleared where that is
// permitted. Memory and descriptors are bounded, whatever the tree. To empty very deep trees it moves directories up
// within dir.
//
// dir must be absolute and not "/". When it isn't there Remove returns nil. It looks at ctx before each entry and then
// returns an error that is the context's, with a part of the tree left. An entry that can't be deleted does not keep it
// from deleting the others; the error is the first one's. What others create in dir meanwhile is deleted too, or makes
// the last step fail with ENOTEMPTY; processes that use the tree should have ended, though no harm can come from them.
func Remove(ctx context.Context, dir string) error {
	var f faults
	if f.path("dir", dir) && filepath.Clean(dir) == "/" {
		f.add("dir", dir, invalidf("the root directory"))
	}
	if err := f.join(); err != nil {
		return &Error{"remove", "", err}
	}
	if ctx.Err() != nil {
		return &Error{"remove", dir, context.Cause(ctx)}
	}
	if err := removeTree(ctx, filepath.Clean(dir)); err != nil {
		return &Error{"remove", dir, err}
	}
	return nil
}
