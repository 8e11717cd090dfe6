package image

import (
	"io/fs"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Image is one image of a Store, ready to be mounted.
type Image struct {
	Ref      string // normalised reference, as Reference.String has it
	Digest   string // of the manifest for Platform, "sha256:…"
	Platform string // "linux/amd64", "linux/arm/v7"
	Config   Config // what it says about running it
	// Layers are the directories to mount, bottom first (the order of the manifest; overlayfs' lowerdir+ wants the
	// reverse). Layers that would not be seen are left out: empty ones, all but the topmost copy of the same layer
	// (overlayfs refuses one directory twice), and those below a layer that hides everything under it. It can be empty.
	Layers []Layer
	// Root is what the root directory is to look like. An overlay's root takes its attributes from the upper directory,
	// so whoever mounts Layers has to give them to that.
	Root Root

	source string // reference that its compressed layers can be had by
}

// Layer is one unpacked layer. Dir is never written to: it is shared by all images and processes.
type Layer struct {
	DiffID string // digest of the uncompressed layer, "sha256:…"
	Dir    string // absolute; fit to be an overlayfs lower with and without userxattr
	// Omitted names what the unpacking process was not allowed to make, at most MaxOmitted: "dev/null: device",
	// "usr/bin/ping: security.capability". Empty when root unpacked the layer.
	Omitted []string
}

// Root are the attributes of an image's root directory: of the topmost layer that has an entry for it, else 0755 and 0:0.
type Root struct {
	Mode     fs.FileMode // permission bits, setgid and sticky
	UID, GID int         // of the image; not applied by an ordinary user's unpacking
}

// Config is what an image says about running it. Nil and empty mean that it says nothing.
type Config struct {
	Env          []string          // "K=V"
	Entrypoint   []string          // what is put in front of the command
	Cmd          []string          // the command, or the arguments of Entrypoint
	WorkingDir   string            // an absolute path
	User         string            // "name", "uid", "user:group"
	StopSignal   string            // "SIGTERM" or a number
	ExposedPorts []string          // "80/tcp", sorted
	Volumes      []string          // paths, sorted
	Labels       map[string]string // never acted on by this package
}

func newConfig(c v1.Config) Config {
	return Config{
		Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, WorkingDir: c.WorkingDir, User: c.User, StopSignal: c.StopSignal,
		ExposedPorts: keys(c.ExposedPorts), Volumes: keys(c.Volumes), Labels: maps.Clone(c.Labels),
	}
}

func keys(m map[string]struct{}) []string { return slices.Sorted(maps.Keys(m)) }
