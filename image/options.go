package image

import "github.com/google/go-containerregistry/pkg/authn"

// Policy says when Pull asks the registry.
type Policy int

// The policies. Layouts and archives (oci:, oci-archive:, docker-archive:) are local files and read at each Pull except
// with PullNever.
const (
	PullMissing Policy = iota // only if the store lacks the image for this platform, or one of its layers
	PullAlways                // resolve the reference anew; layers that are there are not fetched again
	PullNever                 // never; a missing image is fs.ErrNotExist
)

// PullOptions are the options of Pull; the zero value is useful.
type PullOptions struct {
	Policy   Policy         // when the registry is asked
	Platform string         // "os/arch[/variant]"; "": linux and the architecture of this program
	Keychain authn.Keychain // credentials; nil: authn.DefaultKeychain, that is Docker's and podman's configuration files
	// Insecure allows plain HTTP to hosts other than loopback. Without it such a host is only spoken to by HTTPS,
	// whatever its address and wherever it redirects to.
	Insecure bool
	Limits   Limits         // against bombs
	Progress func(Progress) // nil: none. Called by one goroutine at a time, and quickly to return; no call after Pull returned.
}

// Progress says how far a Pull is. Each layer has at least one report, the last with Done equal to Size.
type Progress struct {
	Layer       string // digest of the compressed layer, "sha256:…"
	Done, Size  int64  // compressed bytes of this layer
	Cached      bool   // the layer was in the store already
	TotalDone   int64  // compressed bytes of all layers
	TotalSize   int64  // compressed bytes of all layers
	Layers      int    // how many layers the image has
	LayersReady int    // how many of them are unpacked
}

// Limits bound what one layer may unpack to, against bombs. Zero fields mean the constants. Going over is a *LimitError.
type Limits struct {
	Entries int64 // entries of the archive; 0: MaxEntries
	Bytes   int64 // uncompressed size of the archive, and of the files in it (which differ when they are sparse); 0: MaxBytes
	Depth   int   // components of a path; 0: MaxDepth
}

// The default Limits and what else is bounded.
const (
	MaxEntries  = 2 << 20  // entries of a layer
	MaxBytes    = 64 << 30 // bytes of a layer
	MaxDepth    = 512      // components of a path
	MaxManifest = 8 << 20  // bytes of a manifest, an index, a configuration
	MaxLayers   = 4096     // layers of an image
	MaxOmitted  = 64       // names in Layer.Omitted
	MaxWindow   = 32 << 20 // bytes of memory that a zstd layer may ask for (zstd -19 needs 8 MiB, --ultra more)
	MaxParallel = 4        // layers of one Pull that are fetched and unpacked at once
)

func (l Limits) withDefaults() Limits {
	if l.Entries == 0 {
		l.Entries = MaxEntries
	}
	if l.Bytes == 0 {
		l.Bytes = MaxBytes
	}
	if l.Depth == 0 {
		l.Depth = MaxDepth
	}
	return l
}

// check finds faults before anything is done.
func (o PullOptions) check() error {
	switch {
	case o.Policy < PullMissing || o.Policy > PullNever:
		return invalidf("policy %d: not a policy", o.Policy)
	case o.Limits.Entries < 0 || o.Limits.Bytes < 0 || o.Limits.Depth < 0:
		return invalidf("limits: negative")
	}
	return nil
}
