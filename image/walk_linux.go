package image

import (
	"context"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// walkMode says what walk does about a directory that this layer has not.
type walkMode int

const (
	makeParents walkMode = iota // make it, like the one below if there is one
	makeIfBelow                 // make it only to stand for one below; else the result is nil
)

// maxLinks is the kernel's own bound on links in one path (path_resolution(7)).
const maxLinks = 40

// walk goes to the directory that comps name in the mounted image, which is where an entry belongs: through real
// directories of this layer, links of this layer, then links of the layers below (usr-merge: "lib/x" above a layer
// with lib -> usr/lib is usr/lib/x). ".." comes from links only, and stays in the root.
func (u *unpacker) walk(comps []string, mode walkMode) (*node, error) {
	cur, links := u.tree.root, 0
	pending := slices.Clone(comps)
	slices.Reverse(pending) // a stack: the next component is the last element
	for len(pending) > 0 {
		c := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		if c == ".." {
			if cur.parent != nil {
				cur = cur.parent
			}
			continue
		}
		if k := cur.kids[c]; k != nil {
			cur = k
			continue
		}
		target, next, err := u.step(cur, c, mode)
		if err != nil || (next == nil && target == "") {
			return nil, err
		}
		if next != nil {
			cur = next
			continue
		}
		if links++; links > maxLinks {
			return nil, unix.ELOOP
		}
		if strings.HasPrefix(target, "/") {
			cur = u.tree.root
		}
		pending = push(pending, target)
		if len(pending) > u.opts.limits.Depth {
			return nil, &LimitError{What: "path components", Max: int64(u.opts.limits.Depth)}
		}
	}
	return cur, nil
}

// push puts the components of a link's target onto the stack.
func push(stack []string, target string) []string {
	var comps []string
	for c := range strings.SplitSeq(target, "/") {
		if c != "" && c != "." {
			comps = append(comps, c)
		}
	}
	slices.Reverse(comps)
	return append(stack, comps...)
}

// step goes from a directory to a name in it that is not a directory of this layer yet: a link's target, or a directory,
// or neither.
func (u *unpacker) step(cur *node, name string, mode walkMode) (string, *node, error) {
	if target, ok := cur.links[name]; ok {
		return target, nil, nil
	}
	dir, err := u.tree.dir(cur)
	if err != nil {
		return "", nil, err
	}
	st, err := lstatAt(dir, name)
	switch {
	case err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK:
		target, err := readlinkAt(dir, name)
		return target, nil, err
	case err == nil:
		return "", nil, unix.ENOTDIR
	case err != unix.ENOENT:
		return "", nil, err
	}
	return u.stepBelow(cur, name, mode)
}

func (u *unpacker) stepBelow(cur *node, name string, mode walkMode) (string, *node, error) {
	low, ok, err := u.lookBelow(cur, name)
	if err != nil {
		return "", nil, err
	}
	switch {
	case ok && low.isLink():
		target, err := readlinkAt(low.dir, name)
		if err == nil {
			if cur.links == nil {
				cur.links = map[string]string{}
			}
			cur.links[name] = target
		}
		return target, nil, err
	case ok && low.isDir():
		m, err := u.metaBelow(low, name)
		if err != nil {
			return "", nil, err
		}
		k, err := u.mkdir(cur, name)
		if err == nil {
			k.meta, k.implied = m, true
		}
		return "", k, err
	case mode == makeIfBelow:
		return "", nil, nil
	}
	// Nothing there, or a file: a directory replaces it.
	k, err := u.mkdir(cur, name)
	return "", k, err
}

// mkdir makes a directory that only its owner may enter until unpacking is finished.
func (u *unpacker) mkdir(parent *node, name string) (*node, error) {
	dir, err := u.tree.dir(parent)
	if err != nil {
		return nil, err
	}
	if err := unix.Mkdirat(dir, name, 0o700); err != nil {
		return nil, err
	}
	delete(parent.links, name)
	return parent.add(name), nil
}

// lookBelow looks a name up in the layers below, as they show through this one so far.
func (u *unpacker) lookBelow(dir *node, name string) (lower, bool, error) {
	if err := u.needBelow(); err != nil {
		return lower{}, false, err
	}
	if u.whiteouts[dir.join(name)] || u.covered(dir) {
		return lower{}, false, nil
	}
	return u.below.lookup(dir, name)
}

// covered reports whether this layer hides what is below a directory.
func (u *unpacker) covered(n *node) bool {
	if len(u.opaques) == 0 && len(u.whiteouts) == 0 {
		return false
	}
	for ; n.parent != nil; n = n.parent {
		p := n.parent.join(n.name)
		if n.opaque || u.opaques[p] || u.whiteouts[p] {
			return true
		}
	}
	return n.opaque || u.opaques[""]
}

// needBelow waits for the layers below. From here on this tree is right above them only.
func (u *unpacker) needBelow() error {
	if u.below != nil {
		return nil
	}
	u.out.Dependent = true
	dirs, err := u.opts.below(u.ctx)
	if err != nil {
		return err
	}
	if u.ctx.Err() != nil {
		return context.Cause(u.ctx)
	}
	u.below, err = openLowers(dirs)
	return err
}
