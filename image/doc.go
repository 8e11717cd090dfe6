// Package image pulls container images and unpacks them into directories that overlayfs can mount.
//
//	store, err := image.Open("/var/lib/app/images")
//	if err != nil {
//		return err
//	}
//	img, err := store.Pull(ctx, "alpine:3.20", image.PullOptions{})
//	if err != nil {
//		return err
//	}
//	for _, l := range img.Layers { // bottom first
//		fmt.Println(l.Dir)
//	}
//
// Commit makes new images of layers that are there and one more; Push and Save give images to others, Tag names them.
//
// Images come from registries (basic and bearer authentication, credentials from Docker's configuration), OCI layouts,
// and the archives of docker save; see ParseReference. Layers may be compressed by gzip or zstd, or not at all, whatever
// their media type says. There is no daemon: a Store is a directory that any number of goroutines and processes use at
// the same time.
//
// # What is guaranteed
//
//   - Every byte is verified: digest and size of manifests, configurations and layers, and the diff id of what was
//     unpacked, in the pass that unpacks it. Wrong ones leave nothing.
//   - An archive can't reach out of its directory: names are resolved by openat2(2) one component at a time from
//     descriptors, and symbolic links in them within the image's own root. Hard links out of it, device 0:0 and
//     orders to overlayfs (trusted.overlay.*, user.overlay.*) are refused or dropped. Entries, bytes and depth are bounded.
//   - The mounted layers show what the OCI image specification (layer.md) says: a whiteout concerns the layers below
//     wherever in the archive it stands, a hard link may name a file of a layer below, a parent directory that has no
//     entry is found through the links of the layers below (usr-merge) and looks like the one there.
//   - A layer is unpacked once, also by several processes that want it at the same time. One whose tree depends on the
//     layers below it is kept for each set of those.
//   - A process killed at any instant leaves a Store that works, and the next Open removes its temporary files. After a
//     crash of the machine, layers that may not have reached the disk are taken for missing.
//
// # What is not
//
// Signatures are not looked at. A layer in the store is
// trusted: it is not verified again when it is used. Of the rule that whiteouts come first, one corner is not kept: an
// entry that goes through a symbolic link of a layer below, before a whiteout of that link in the same layer, follows it.
// In an overlay without userxattr, an opaque directory shows the attribute user.overlay.opaque.
//
// # Privileges and kernels
//
// Linux 5.8 (openat2, whiteouts without privilege); on tmpfs an ordinary user needs 6.6 for opaque directories. As root,
// layers have the owners, devices and capabilities of the image. An ordinary user owns every file of the layers that he
// unpacks, can't make device nodes and can't set security.capability: Layer.Omitted lists what that concerned. A Store
// belongs to one user.
//
// On other systems Open returns errors.ErrUnsupported; references can be parsed everywhere.
package image
