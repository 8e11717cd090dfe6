package rootfs

import (
	"io/fs"
	"math"
	"os"
	"path"
	"strings"
)

// Validate returns all faults of m, joined, each a FieldError that names the field; nil if there are none. Data is in
// none of them. Whether an Image's Source is a reference is for package image to say.
func (m *Mount) Validate() error {
	var f faults
	f.mountType(m)
	f.target(m.Target)
	f.source(m)
	f.scope(m)
	f.tmpfsOnly(m)
	f.mode(m)
	f.owner(m)
	if m.Type != File && m.Data != nil {
		f.add("Data", nil, invalidf("only for a File"))
	}
	if len(m.Data) > MaxFileData {
		f.add("Data", nil, invalidf("%d bytes, more than %d", len(m.Data), MaxFileData))
	}
	return f.join()
}

const known = "Bind, Volume, Tmpfs, Image or File"

func (f *faults) mountType(m *Mount) {
	switch m.Type {
	case Bind, Volume, Tmpfs, File:
	case Image:
		if m.Writable {
			f.add("Writable", m.Writable, invalidf("an Image is read-only"))
		}
	case 0:
		f.add("Type", nil, invalidf("missing (%s)", known))
	default:
		f.add("Type", int(m.Type), invalidf("unknown (%s)", known))
	}
}

// target: the limits are PATH_MAX and NAME_MAX of limits.h.
func (f *faults) target(target string) {
	bad := func(format string, a ...any) { f.add("Target", target, invalidf(format, a...)) }
	switch {
	case target == "":
		f.add("Target", nil, invalidf("missing"))
	case strings.IndexByte(target, 0) >= 0:
		bad("NUL byte")
	case !path.IsAbs(target):
		bad("not absolute")
	case path.Clean(target) != target:
		bad("not clean, should be %q", path.Clean(target))
	case target == "/", target == "/dev", below(target, "/proc"), below(target, "/sys"):
		bad("the sandbox's own")
	case len(target) > 4095:
		bad("longer than 4095 bytes")
	case longestName(target) > 255:
		bad("a name in it is longer than 255 bytes")
	}
}

func below(target, dir string) bool { return target == dir || strings.HasPrefix(target, dir+"/") }

func longestName(target string) (n int) {
	for name := range strings.SplitSeq(target, "/") {
		n = max(n, len(name))
	}
	return n
}

func (f *faults) source(m *Mount) {
	switch m.Type {
	case Bind:
		if !f.path("Source", m.Source) {
			return
		}
		if _, err := os.Stat(m.Source); err != nil {
			f.add("Source", m.Source, underlying(err))
		}
	case Volume:
		if !validName(m.Source) {
			f.add("Source", m.Source, invalidf("not of the form [a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}"))
		}
	case Image:
		if m.Source == "" {
			f.add("Source", nil, invalidf("missing"))
		}
	case Tmpfs, File:
		if m.Source != "" {
			f.add("Source", m.Source, invalidf("a %v has none", m.Type))
		}
	}
}

// validName says whether a volume can have the name.
func validName(name string) bool {
	alnum := func(c rune) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }
	return name != "" && len(name) <= 63 && alnum(rune(name[0])) &&
		!strings.ContainsFunc(name, func(c rune) bool { return !alnum(c) && !strings.ContainsRune("_.-", c) })
}

// underlying drops what os says about the path, which the fault names already.
func underlying(err error) error {
	if p, ok := err.(*fs.PathError); ok {
		return p.Err
	}
	return err
}

func (f *faults) scope(m *Mount) {
	switch {
	case m.Scope > PerRun:
		f.add("Scope", int(m.Scope), invalidf("unknown"))
	case m.Scope == PerRun && m.Type != Tmpfs && m.Type != File:
		f.add("Scope", m.Scope.String(), invalidf("only for a Tmpfs or File"))
	}
}

func (f *faults) tmpfsOnly(m *Mount) {
	if m.Type == Tmpfs {
		if m.Size != 0 {
			f.size("Size", m.Size)
		}
		f.inodes("Inodes", m.Inodes)
		return
	}
	if m.Size != 0 {
		f.add("Size", m.Size, invalidf("only for a Tmpfs"))
	}
	if m.Inodes != 0 {
		f.add("Inodes", m.Inodes, invalidf("only for a Tmpfs"))
	}
}

func (f *faults) size(field string, n int64) {
	if n < 4096 || n > MaxTmpfsSize {
		f.add(field, n, invalidf("not between 4096 and %d bytes", int64(MaxTmpfsSize)))
	}
}

// inodes: a tmpfs counts its root, so with fewer than two nothing can be made in it.
func (f *faults) inodes(field string, n int64) {
	if n != 0 && n < 2 {
		f.add(field, n, invalidf("fewer than 2"))
	}
	if n > MaxTmpfsSize/4096 {
		f.add(field, n, invalidf("more than %d", int64(MaxTmpfsSize/4096)))
	}
}

// inodesFor is the limit of a tmpfs of size bytes.
func inodesFor(size, inodes int64) int64 {
	if inodes != 0 {
		return inodes
	}
	return max(size/4096, 16)
}

func (f *faults) mode(m *Mount) {
	allowed := fs.FileMode(0)
	switch m.Type {
	case Tmpfs:
		allowed = fs.ModePerm | fs.ModeSticky
	case File:
		allowed = fs.ModePerm
	}
	if bad := m.Mode &^ allowed; bad != 0 {
		f.add("Mode", m.Mode.String(), invalidf("bits that a %v can't have: %v", m.Type, bad))
	}
}

// owner: ids are 32 bits wide, and -1 stands for "leave it" in chown(2).
func (f *faults) owner(m *Mount) {
	for _, id := range []struct {
		field string
		n     int
	}{{"UID", m.UID}, {"GID", m.GID}} {
		switch {
		case id.n < 0 || int64(id.n) >= math.MaxUint32:
			f.add(id.field, id.n, invalidf("not an id"))
		case id.n != 0 && m.Type != Tmpfs && m.Type != File && m.Type != Bind:
			f.add(id.field, id.n, invalidf("only for a Bind, Tmpfs or File"))
		}
	}
}
