package image

import (
	"io"

	"github.com/google/go-containerregistry/pkg/authn"
)

// CommitOptions say what a new image consists of.
type CommitOptions struct {
	Base *Image // image of the same store whose layers are below; nil: none
	// Layer is one more layer, on top: a tar archive, not compressed, as the OCI image specification has it (layer.md):
	// ".wh.NAME" removes a name of the layers below, ".wh..wh..opq" all that they have in a directory.
	Layer   io.Reader
	Edit    func(*Config) // changes what Base says about running it; nil: nothing is changed
	Author  string        // for the history; may be empty
	Comment string        // for the history; may be empty
}

// PushOptions are the options of Push; the zero value is useful.
type PushOptions struct {
	Keychain authn.Keychain // credentials, for both registries; nil: as in PullOptions
	Insecure bool           // as in PullOptions, for both registries
}

// Used is how much of a store an image takes.
type Used struct {
	Ref, Digest, Platform string // as in Image
	Layers                int    // of its layers
	Bytes                 int64  // of the files of all its layers
	Unique                int64  // of those, in layers that no other digest of the store has
}
