package imagetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Debian is a real distribution: a Debian minbase with python3, some 150 MB in
// 10,000 files. It is made by mmdebstrap, as root, from the package mirrors that
// the machine is set up with, once: the archive is kept in the user's cache
// directory.
func Debian(t testing.TB) v1.Image {
	t.Helper()
	layer, err := tarball.LayerFromFile(debianTar(t))
	if err != nil {
		t.Fatal(err)
	}
	img := ImageFor(t, runtime.GOARCH, layer)
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf = cf.DeepCopy()
	cf.Config = v1.Config{Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, Cmd: []string{"python3"}}
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		t.Fatal(err)
	}
	return img
}

func debianTar(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "sandbox-tests")
	name := filepath.Join(dir, "debian-python3.tar")
	if _, err := os.Stat(name); err == nil {
		return name
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tmp := name + ".new"
	// The exclusions keep it small; forced unsafe I/O makes it twice as fast.
	out, err := exec.CommandContext(t.Context(), "mmdebstrap", "--variant=minbase", "--mode=root", "--include=python3-minimal",
		"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
		"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=force-unsafe-io", "--format=tar", "bookworm", tmp).CombinedOutput()
	if err != nil {
		t.Fatalf("the package mmdebstrap is needed, and a package mirror: %v\n%s", err, out)
	}
	if err := os.Rename(tmp, name); err != nil {
		t.Fatal(err)
	}
	return name
}
