package image

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The names of the OCI image specification (layer.md, Whiteouts). Others that begin with whMeta are aufs' own files.
const (
	whPrefix = ".wh."
	whMeta   = ".wh..wh."
	whOpaque = ".wh..wh..opq"
)

// opaqueAttrs are both spellings of overlayfs' mark, the second for mounts with userxattr (Linux 5.11). An ordinary user
// may set only that one.
var opaqueAttrs = [...]string{"trusted.overlay.opaque", "user.overlay.opaque"}

// whiteout notes a whiteout of a name in the directory comps.
func (u *unpacker) whiteout(comps []string, base string) error {
	if base == whOpaque {
		u.opaques[joined(comps)] = true
		return nil
	}
	name := base[len(whPrefix):]
	if name == "" || name == "." || name == ".." {
		return invalidf("whiteout of no name")
	}
	p := joined(append(slices.Clone(comps), name))
	if !u.whiteouts[p] {
		u.whiteouts[p] = true
		u.order = append(u.order, p)
	}
	return nil
}

// applyWhiteouts makes overlayfs' marks. A whiteout takes away what is below: of a directory that this layer has, it
// makes it opaque, of a file nothing is left to do, else it becomes a character device 0:0, but only where something is
// below: overlayfs shows the device as a ghost in the listing of a directory that it does not merge.
func (u *unpacker) applyWhiteouts() error {
	for p := range u.opaques {
		comps, err := u.split(p)
		if err != nil {
			return err
		}
		n, err := u.walk(comps, makeParents)
		if err != nil {
			return u.explain(p+"/"+whOpaque, err)
		}
		n.opaque = true
		if n.parent == nil {
			u.out.Opaque = true
		}
	}
	for _, p := range u.order {
		if err := u.applyWhiteout(p); err != nil {
			return u.explain(p, err)
		}
	}
	return nil
}

func (u *unpacker) applyWhiteout(p string) error {
	comps, err := u.split(p)
	if err != nil {
		return err
	}
	last := len(comps) - 1
	dir, err := u.walk(comps[:last], makeIfBelow)
	if err != nil || dir == nil {
		return err
	}
	name := comps[last]
	if k := dir.kids[name]; k != nil {
		k.opaque = true
		if k.implied {
			k.meta = nil // it looked like the one that is now hidden
		}
		return nil
	}
	fd, err := u.tree.dir(dir)
	if err != nil {
		return err
	}
	if _, err := lstatAt(fd, name); err != unix.ENOENT {
		if err == nil && u.copied[dir.join(name)] {
			return invalidf("a hard link to this file stands in the same layer")
		}
		return err
	}
	below, err := u.visibleBelow(dir, name)
	if err != nil || !below {
		return err
	}
	// mknod of 0:0 needs no privilege since Linux 5.8.
	return unix.Mknodat(fd, name, unix.S_IFCHR, 0)
}

// visibleBelow is lookBelow without the whiteouts themselves.
func (u *unpacker) visibleBelow(dir *node, name string) (bool, error) {
	for n := dir; n != nil; n = n.parent {
		if n.opaque {
			return false, nil
		}
	}
	if err := u.needBelow(); err != nil {
		return false, err
	}
	_, ok, err := u.below.lookup(dir, name)
	return ok, err
}

func joined(comps []string) string { return strings.Join(comps, "/") }
