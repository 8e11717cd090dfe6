//go:build linux

package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	it "github.com/seed-5a9fb6e0/sandbox/internal/imagetest"
)

// FuzzUnpack unpacks any bytes above a layer that has links out of it. Whatever comes of it, nothing appears beside the
// directory, what was there keeps its content, and the result can be removed.
func FuzzUnpack(f *testing.F) {
	lower := it.Archive(append(entries{it.Symlink("out", "../../../.."), it.Symlink("abs", "/"), it.File("t", "t", 0o644)}, merge...)...)
	for _, e := range []entries{
		{it.Dir("a/", 0o755), it.File("a/b", "x", 0o644), it.Link("l", "a/b"), it.Whiteout(".wh.t"), it.Whiteout("a/.wh..wh..opq")},
		{it.File("out/canary", "evil", 0o644), it.File("abs/canary", "evil", 0o644), it.Link("l", "out/canary"), it.File("lib/x", "", 0o644)},
		{it.Symlink("s", "../../canary"), it.File("s", "evil", 0o644), it.File("../canary", "evil", 0o644)},
		{it.Dir("d/", 0o755), it.Symlink("d", "/"), it.File("d/canary", "evil", 0o644)},
		everything(),
	} {
		f.Add(it.Archive(e...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		top := t.TempDir()
		canary := filepath.Join(top, "canary")
		if err := os.WriteFile(canary, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(top, "dir")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		// The error, if any, is not of interest: only what it left is.
		_ = unpackChain(dir, Limits{Entries: 200, Bytes: 1 << 20, Depth: 40}, lower, data)
		if got, err := os.ReadFile(canary); err != nil || string(got) != "mine" {
			t.Fatalf("the file outside is %q, %v", got, err)
		}
		beside(t, top, "canary dir")
		beside(t, filepath.Join(dir, "0"), "fs layer.json trash")
		want := "fs layer.json trash"
		if _, err := os.Stat(filepath.Join(dir, "1", "layer.json")); err != nil {
			want = "fs trash"
		}
		beside(t, filepath.Join(dir, "1"), want)
		if err := removeAll(dir); err != nil {
			t.Fatal(err)
		}
	})
}

func beside(t *testing.T, dir, want string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != want {
		t.Fatalf("%s has %q, not %q", dir, got, want)
	}
}
