package sandbox_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/seed-5a9fb6e0/sandbox"

// The modules that a package of this module may import itself, each with what it is for.
var thirdParty = map[string]string{
	"golang.org/x/sys":                       "system calls that syscall lacks: the new mount API, openat2, clone3",
	"golang.org/x/sync":                      "parallel downloads that end together (errgroup), single-flight",
	"golang.org/x/term":                      "whether a progress bar has a terminal to be drawn on",
	"github.com/cilium/ebpf":                 "the device filter of cgroup v2: assembling, loading, attaching (without cgo or a compiler)",
	"github.com/google/go-containerregistry": "the registry protocol, image formats and docker's credentials",
	"github.com/moby/profiles/seccomp":       "Docker's seccomp profile, the data that every container is tested with",
	"github.com/opencontainers/runtime-spec": "the types of the OCI's seccomp profiles, which that data is in",
	"github.com/klauspost/compress":          "gzip faster than the standard library's, and zstd",
}

// Those that only tests may import.
var thirdPartyInTests = map[string]string{
	"github.com/stretchr/testify": "assertions that show both sides",
}

// leaves are the public packages that stand alone.
var leaves = []string{"image", "rootfs", "cgroup", "netns"}

// A goPackage is what we read of `go list -json`.
type goPackage struct {
	ImportPath, ForTest                string
	Standard                           bool
	Imports, TestImports, XTestImports []string
	CgoFiles                           []string
}

// goList returns every package of the module and what those depend on, for an operating system.
func goList(t *testing.T, goos string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Imports,TestImports,XTestImports,CgoFiles", "./...")
	cmd.Env = append(cmd.Environ(), "GOOS="+goos)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var all []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// inModule returns the path of a package of this module below its root, "." for the root.
func inModule(path string) (string, bool) {
	if path == module {
		return ".", true
	}
	return strings.CutPrefix(path, module+"/")
}

// layer orders the packages: each may import those below its own layer, and none of another tree at the same.
func layer(rel string) int {
	top, _, _ := strings.Cut(rel, "/")
	switch {
	case rel == "internal/bench" || strings.HasPrefix(rel, "internal/bench/") || top == "examples":
		return 4 // programs
	case top == "sandboxtest":
		return 3
	case rel == ".":
		return 2
	case top == "internal":
		return 0
	default:
		return 1 // leaves
	}
}

// mayImport says why from may not import to, both below the root of the module; "" when it may.
func mayImport(from, to string) string {
	fromTop, _, _ := strings.Cut(from, "/")
	toTop, _, _ := strings.Cut(to, "/")
	switch {
	case layer(to) > layer(from):
		return "imports point one way: internal <- " + strings.Join(leaves, ", ") + " <- the root <- sandboxtest <- programs"
	case layer(from) == 1 && layer(to) == 1 && fromTop != toTop:
		return "leaf packages never import each other: what both need is internal"
	case layer(from) == 4 && layer(to) == 4 && fromTop != toTop:
		return "programs stand alone"
	}
	return ""
}

// Imports point one way, and what tests stand on is imported by tests.
func TestImportGraph(t *testing.T) {
	for _, goos := range []string{"linux", "darwin"} {
		for _, p := range goList(t, goos) {
			from, ok := inModule(p.ImportPath)
			if !ok {
				continue
			}
			for _, path := range p.Imports {
				to, ok := inModule(path)
				if !ok {
					continue
				}
				if why := mayImport(from, to); why != "" {
					t.Errorf("%s: %s imports %s: %s", goos, from, to, why)
				}
				if testOnly(to) && !testOnly(from) {
					t.Errorf("%s: %s imports %s, which is for tests only", goos, from, to)
				}
			}
		}
	}
}

// testOnly reports whether a package serves tests of this module: it may import more, and nothing else may import it.
func testOnly(rel string) bool {
	for _, p := range []string{"internal/testenv", "internal/imagetest", "internal/vmtest", "internal/escape"} {
		if rel == p || strings.HasPrefix(rel, p+"/") {
			return true
		}
	}
	return false
}

// Every module that we import ourselves is on the list with its reason, and the list has no other.
func TestThirdParty(t *testing.T) {
	used := map[string]bool{}
	check := func(p goPackage, path string, lists ...map[string]string) {
		if !strings.Contains(strings.Split(path, "/")[0], ".") { // the standard library, "C"
			return
		}
		if _, ok := inModule(path); ok {
			return
		}
		for _, list := range lists {
			for m := range list {
				if path == m || strings.HasPrefix(path, m+"/") {
					used[m] = true
					return
				}
			}
		}
		t.Errorf("%s imports %s, which is not on the list of imports_test.go with what it is for", p.ImportPath, path)
	}
	for _, p := range goList(t, "linux") {
		rel, ok := inModule(p.ImportPath)
		if !ok {
			continue
		}
		for _, path := range p.Imports {
			if testOnly(rel) {
				check(p, path, thirdParty, thirdPartyInTests)
			} else {
				check(p, path, thirdParty)
			}
		}
		for _, path := range slices.Concat(p.TestImports, p.XTestImports) {
			check(p, path, thirdParty, thirdPartyInTests)
		}
	}
	for _, m := range slices.Sorted(maps.Keys(thirdParty)) {
		if !used[m] {
			t.Errorf("%s (%s) is on the list and nothing imports it", m, thirdParty[m])
		}
	}
}

// No cgo, neither ours nor that of a module we import: a program that uses this one is a static binary.
func TestNoCgo(t *testing.T) {
	for _, p := range goList(t, "linux") {
		if !p.Standard && len(p.CgoFiles) > 0 {
			t.Errorf("%s uses cgo: %v", p.ImportPath, p.CgoFiles)
		}
	}
}

// The rules themselves: each forbidden direction is refused.
func TestMayImport(t *testing.T) {
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{".", "image", true}, {".", "internal/spawn", true}, {"image", "internal/store", true},
		{"internal/world", "internal/spawn", true}, {"image/layer", "image", true}, {"sandboxtest", ".", true},
		{"examples/quickstart", ".", true}, {"internal/bench", ".", true},
		{"image", "rootfs", false}, {"netns", "cgroup", false}, {"image", ".", false}, {"internal/spawn", ".", false},
		{"internal/world", "rootfs", false}, {".", "sandboxtest", false}, {".", "internal/bench", false},
		{"internal/bench", "examples/quickstart", false},
	} {
		if why := mayImport(c.from, c.to); (why == "") != c.ok {
			t.Errorf("%s imports %s: %q, want allowed %v", c.from, c.to, why, c.ok)
		}
	}
}
