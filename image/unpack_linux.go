package image

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// unpackOptions say how to unpack one layer.
type unpackOptions struct {
	limits Limits
	// below gives the trees of the layers under this one, topmost first, once they are there. It is asked for only when
	// an entry's meaning depends on them, and at most once.
	below func(context.Context) ([]string, error)
	trash string // an existing directory on the same file system, for what later entries replace
}

// unpacker turns one archive into one overlayfs lower directory.
//
// Every name is resolved by the kernel from the descriptor of a directory of the tree: openat2(2) with RESOLVE_BENEATH
// and RESOLVE_NO_SYMLINKS, one component at a time, then *at calls with that one component. Symbolic links in the path
// of an entry are read and expanded here, within the root, against this layer and the ones below it, as they would be
// in the mounted image. No name of the archive ever reaches the kernel as a path.
type unpacker struct {
	ctx     context.Context
	opts    unpackOptions
	root    bool // privileged: owners, devices, trusted and security attributes
	tree    *tree
	trash   int // descriptor
	below   *lowers
	out     unpacked
	buf     []byte
	trashed int

	// Whiteouts and opaque marks concern the layers below only, wherever in the archive they stand, so they are applied
	// when all entries are in place. Their cleaned names are kept to be seen by lookups in the layers below meanwhile.
	whiteouts map[string]bool
	opaques   map[string]bool
	order     []string        // keys of whiteouts
	hidden    []hidden        // ".wh..wh.*": unpacked as hard links may point there, removed at the end
	copied    map[string]bool // hard link targets of layers below that were copied up
	left      map[string]bool // devices that could not be made
}

type hidden struct {
	dir  *node
	name string
}

// unpack unpacks the archive r into dir, which must not exist.
func unpack(ctx context.Context, dir string, r io.Reader, o unpackOptions) (unpacked, error) {
	u, err := newUnpacker(ctx, dir, o)
	if err != nil {
		return unpacked{}, err
	}
	defer u.close()
	if err := u.entries(tar.NewReader(r)); err != nil {
		return unpacked{}, err
	}
	return u.out, u.finish()
}

func newUnpacker(ctx context.Context, dir string, o unpackOptions) (*unpacker, error) {
	u := &unpacker{
		ctx: ctx, opts: o, root: os.Geteuid() == 0, trash: -1, buf: make([]byte, 256<<10),
		whiteouts: map[string]bool{}, opaques: map[string]bool{}, copied: map[string]bool{}, left: map[string]bool{},
	}
	u.opts.limits = o.limits.withDefaults()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if u.trash, err = unix.Open(o.trash, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, &fs.PathError{Op: "open", Path: o.trash, Err: err}
	}
	if u.tree, err = newTree(dir); err != nil {
		unix.Close(u.trash)
		return nil, err
	}
	return u, nil
}

func (u *unpacker) close() {
	u.tree.close()
	if u.below != nil {
		u.below.close()
	}
	unix.Close(u.trash)
}

func (u *unpacker) entries(t *tar.Reader) error {
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return asInvalid(err)
		}
		if u.ctx.Err() != nil {
			return context.Cause(u.ctx)
		}
		if u.out.Entries++; u.out.Entries > u.opts.limits.Entries {
			return &LimitError{What: "entries", Max: u.opts.limits.Entries}
		}
		if err := u.entry(h, t); err != nil {
			return u.explain(h.Name, err)
		}
	}
}

// explain names the entry, but for errors that are about the whole layer.
func (u *unpacker) explain(name string, err error) error {
	var limit *LimitError
	if errors.As(err, &limit) || u.ctx.Err() != nil {
		return err
	}
	return &EntryError{Name: name, Err: asInvalid(err)}
}

// asInvalid makes what archive/tar finds wrong an fs.ErrInvalid.
func asInvalid(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &kindError{kind: fs.ErrInvalid, text: "archive", err: err}
	}
	return err
}

// entry unpacks one entry.
func (u *unpacker) entry(h *tar.Header, r io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	comps, err := u.split(h.Name)
	if err != nil {
		return err
	}
	if len(comps) == 0 {
		return u.rootEntry(h)
	}
	last := len(comps) - 1
	for _, c := range comps[:last] {
		if strings.HasPrefix(c, whPrefix) && !strings.HasPrefix(c, whMeta) {
			return invalidf("a whiteout is no directory")
		}
	}
	if name := comps[last]; strings.HasPrefix(name, whPrefix) && (name == whOpaque || !strings.HasPrefix(name, whMeta)) {
		return u.whiteout(comps[:last], name)
	}
	dir, err := u.walk(comps[:last], makeParents)
	if err != nil {
		return err
	}
	name := comps[last]
	if strings.HasPrefix(name, whMeta) {
		u.hidden = append(u.hidden, hidden{dir, name})
	}
	return u.place(dir, name, h, r)
}

// split gives the components of a name, seen from the root. "a/../b" is b; what leaves the root is refused, as clamping
// it, which others do, makes an evil archive look harmless.
func (u *unpacker) split(name string) ([]string, error) {
	var comps []string
	for c := range strings.SplitSeq(name, "/") {
		switch c {
		case "", ".":
		case "..":
			if len(comps) == 0 {
				return nil, invalidf("path leaves the root")
			}
			comps = comps[:len(comps)-1]
		default:
			comps = append(comps, c)
		}
		if len(comps) > u.opts.limits.Depth {
			return nil, &LimitError{What: "path components", Max: int64(u.opts.limits.Depth)}
		}
	}
	return comps, nil
}

// rootEntry takes the attributes of "/".
func (u *unpacker) rootEntry(h *tar.Header) error {
	if h.Typeflag != tar.TypeDir {
		return invalidf("the root is not a directory")
	}
	m, err := u.metaOf(h)
	if err != nil {
		return err
	}
	u.tree.root.meta = m
	u.out.Root = &Root{Mode: fileMode(m.mode), UID: int(m.uid), GID: int(m.gid)}
	return nil
}

// fileMode is the fs.FileMode of the permission bits of a directory.
func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	if mode&unix.S_ISUID != 0 {
		m |= fs.ModeSetuid
	}
	if mode&unix.S_ISGID != 0 {
		m |= fs.ModeSetgid
	}
	if mode&unix.S_ISVTX != 0 {
		m |= fs.ModeSticky
	}
	return m
}

// omit notes what the kernel did not let this process make.
func (u *unpacker) omit(dir *node, name, what string) {
	if len(u.out.Omitted) < MaxOmitted {
		u.out.Omitted = append(u.out.Omitted, dir.join(name)+": "+what)
	}
}
