// Package rootfs makes the root file system of a container: read-only layers, one upper layer that takes the changes,
// and what is mounted into it.
//
//	layers := rootfs.Overlay{
//		Lower: []string{"/layers/debian", "/layers/app"}, // the bottom first, as in an image's manifest
//		Upper: "/run/app/upper", Work: "/run/app/work",
//		UserNS: ns, // the layers' ids become those of this user namespace
//	}
//	if err := layers.MakeUpper(ctx); err != nil {
//		return err
//	}
//	root, err := layers.Open(ctx) // a mount that is attached nowhere
//	if err != nil {
//		return err
//	}
//	defer root.Close()
//	err = rootfs.Attach(root, "/mnt/app") // or move_mount(2) in any namespace
//	…
//	err = rootfs.Remove(ctx, "/run/app/upper") // whatever the container left there
//
// A [Root] works on the files of such a tree as a user of its user namespace, while others do, too.
//
// # Guarantees
//
//   - Open returns a mount that was seen to take a file, or an error; never one that silently came up read-only.
//   - Until Attach nothing appears in any mount namespace, and a program that dies leaves no mount behind.
//   - Nothing in a layer redirects to another file (metacopy and redirects are off); device nodes and set-user-ID bits in
//     it have no effect unless asked for.
//   - Remove touches nothing outside of the directory that it is given, whatever is in it.
//   - A Root reaches nothing outside of its tree and waits for nobody in it; what it gives of a tree is bounded.
//   - Faults of a configuration come all at once, each a [FieldError], before anything is made.
//
// # Not guaranteed
//
//   - That an upper layer survives a crash of the machine, unless Sync is set.
//   - That two mounts don't use the same Upper: give each its own.
//   - That a system call which hangs in a network file system is interrupted when the context ends.
//
// # Kernels and privileges
//
// Linux 5.10 or newer. Mounting needs CAP_SYS_ADMIN in the user namespace that owns the caller's mount namespace: an
// ordinary user gets an [UnsupportedError]. Layers with mapped ids need Linux 5.19 and file systems that support idmapped
// mounts (ext4, xfs, btrfs, erofs; tmpfs from 6.3; overlayfs itself, NFS and most FUSE ones don't). From Linux 6.15 on a
// mount is made with descriptors alone; on older ones in a mount namespace that lives for that moment. What is there is
// found by trying, not by the kernel's version. Remove and Mount.Validate need no privilege of their own.
//
// All functions and methods may be called concurrently. On other systems than Linux everything that needs the kernel is
// errors.ErrUnsupported.
package rootfs
