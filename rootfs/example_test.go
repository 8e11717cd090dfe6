package rootfs_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"

	"github.com/seed-5a9fb6e0/sandbox/rootfs"
)

// All faults of a Mount come at once, each names its field.
func ExampleMount_Validate() {
	good := rootfs.Mount{Type: rootfs.Tmpfs, Target: "/out", Size: 16 << 20, Writable: true}
	fmt.Println(good.Validate())
	bad := rootfs.Mount{Type: rootfs.Bind, Source: "/no such directory", Target: "out", Size: 1}
	err := bad.Validate()
	fmt.Println(err)
	fmt.Println(errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrInvalid))
	// Output:
	// <nil>
	// Target: "out": not absolute
	// Source: "/no such directory": no such file or directory
	// Size: 1: only for a Tmpfs
	// true true
}

// A tree that somebody else fills is read without leaving it, and without waiting for its FIFOs.
func ExampleRoot() {
	dir, err := os.MkdirTemp("", "tree-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	top, err := os.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer top.Close()
	root := rootfs.NewRoot(top, nil, os.Getuid(), os.Getgid())
	fmt.Println(root.MkdirAll("/var/log", 0o755), root.WriteFile("/var/log/app", []byte("started\n"), 0o644))
	fmt.Println(root.Symlink("/etc/passwd", "/var/log/evil"))
	_, err = root.ReadFile("/var/log/evil")
	fmt.Println(errors.Is(err, fs.ErrNotExist))

	var archive bytes.Buffer
	if err := root.CopyOut(context.Background(), "/var", &archive, rootfs.CopyOptions{MaxBytes: 1 << 20}); err != nil {
		log.Fatal(err)
	}
	for r := tar.NewReader(&archive); ; {
		h, err := r.Next()
		if err != nil {
			break
		}
		fmt.Println(h.Name, h.Size)
	}
	// Output:
	// <nil> <nil>
	// <nil>
	// true
	// ./ 0
	// log/ 0
	// log/app 8
	// log/evil 0
}

// A directory of a tree, results of a job perhaps, is copied to one of the host's while others work in the tree, and one of
// the host's into it.
func ExampleRoot_CopyOut() {
	ctx := context.Background()
	tree, host := openTemp("tree-"), openTemp("host-")
	defer os.RemoveAll(tree.Name())
	defer os.RemoveAll(host.Name())
	defer tree.Close()
	defer host.Close()
	root := rootfs.NewRoot(tree, nil, os.Getuid(), os.Getgid()) // or a Sandbox's Root
	fmt.Println(root.MkdirAll("/out/plots", 0o755), root.WriteFile("/out/plots/a.svg", []byte("<svg/>"), 0o644))

	archive, w := io.Pipe()
	go func() { w.CloseWithError(root.CopyOut(ctx, "/out", w, rootfs.CopyOptions{MaxBytes: 1 << 20})) }()
	err := rootfs.NewRoot(host, nil, os.Getuid(), os.Getgid()).CopyIn(ctx, "/", archive, rootfs.CopyOptions{})
	archive.Close() // CopyOut ends, also when CopyIn has failed
	text, readErr := os.ReadFile(filepath.Join(host.Name(), "plots/a.svg"))
	fmt.Println(string(text), err, readErr)

	top, err := os.OpenRoot(host.Name())
	if err != nil {
		log.Fatal(err)
	}
	defer top.Close()
	fmt.Println(root.Mkdir("/in", 0o755), root.CopyFS(ctx, "/in", top.FS(), rootfs.CopyOptions{}))
	text, err = root.ReadFile("/in/plots/a.svg")
	fmt.Println(string(text), err)
	// Output:
	// <nil> <nil>
	// <svg/> <nil> <nil>
	// <nil> <nil>
	// <svg/> <nil>
}

func openTemp(pattern string) *os.File {
	dir, err := os.MkdirTemp("", pattern)
	if err != nil {
		log.Fatal(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	return f
}

// Where nobody works in a tree any more, the standard library copies it.
func ExampleRoot_FS() {
	tree, host := openTemp("tree-"), openTemp("host-")
	defer os.RemoveAll(tree.Name())
	defer os.RemoveAll(host.Name())
	defer tree.Close()
	defer host.Close()
	root := rootfs.NewRoot(tree, nil, os.Getuid(), os.Getgid())
	fmt.Println(root.Mkdir("/out", 0o755), root.WriteFile("/out/report", []byte("done"), 0o644))
	out, err := fs.Sub(root.FS(), "out")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(os.CopyFS(host.Name(), out))
	text, err := os.ReadFile(filepath.Join(host.Name(), "report"))
	fmt.Println(string(text), err)
	// Output:
	// <nil> <nil>
	// <nil>
	// done <nil>
}

// Two layers and an upper one become a directory tree. An ordinary user can't mount it from outside of a user namespace.
func ExampleOverlay_Open() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "layers-")
	if err != nil {
		log.Fatal(err)
	}
	defer rootfs.Remove(ctx, dir)
	for layer, file := range map[string]string{"base": "hello", "app": "hello, world"} {
		if err := os.Mkdir(filepath.Join(dir, layer), 0o755); err != nil {
			log.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, layer, "greeting"), []byte(file), 0o644); err != nil {
			log.Fatal(err)
		}
	}
	overlay := rootfs.Overlay{
		Lower:     []string{filepath.Join(dir, "base"), filepath.Join(dir, "app")},
		TmpfsSize: 1 << 20,
	}
	var greeting []byte
	root, err := overlay.Open(ctx)
	switch {
	case err == nil:
		defer root.Close()
		greeting, err = os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/greeting", root.Fd()))
	case errors.Is(err, errors.ErrUnsupported) && os.Getuid() != 0:
		// No privilege: the upper of the two layers alone
		greeting, err = os.ReadFile(filepath.Join(dir, "app", "greeting"))
	}
	fmt.Println(string(greeting), err)
	// Output: hello, world <nil>
}

// Remove deletes what any other program may have left, without following anything out of the directory.
func ExampleRemove() {
	dir, err := os.MkdirTemp("", "upper-")
	if err != nil {
		log.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(dir, "trap")); err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	fmt.Println(rootfs.Remove(ctx, dir))
	fmt.Println(rootfs.Remove(ctx, dir)) // it isn't there any more
	_, err = os.Stat("/etc")
	fmt.Println(err)
	// Output:
	// <nil>
	// <nil>
	// <nil>
}
