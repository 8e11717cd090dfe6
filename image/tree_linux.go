package image

import (
	"container/list"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// tree mirrors the directories of the layer that is being unpacked, and caches their descriptors: with it 13,000 files
// cost about one openat2 for each directory. Dropping a node drops what is cached below it.
type tree struct {
	root *node
	open *list.List // *node with a descriptor, most recently used first; without the root
}

// node is a directory of the layer.
type node struct {
	parent *node
	name   string
	kids   map[string]*node
	fd     int           // -1 while not open
	elem   *list.Element // in tree.open
	meta   *dirMeta      // set when unpacking is finished; nil for what the archive did not mention
	opaque bool
	// implied directories have no entry of their own yet; they look like the one below.
	implied bool
	// links are symbolic links in the layers below that were followed from here, by name.
	links map[string]string
}

// maxOpen bounds the descriptors of one layer; the path to the deepest directory is far shorter than usual limits.
const maxOpen = 64

func newTree(dir string) (*tree, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return &tree{root: &node{fd: fd}, open: list.New()}, nil
}

func (t *tree) close() {
	t.forget(t.root)
	unix.Close(t.root.fd)
}

// dir gives the descriptor of a directory. It is good until the next maxOpen calls.
func (t *tree) dir(n *node) (int, error) {
	if n.elem != nil {
		t.open.MoveToFront(n.elem)
		return n.fd, nil
	}
	if n.parent == nil {
		return n.fd, nil
	}
	pfd, err := t.dir(n.parent)
	if err != nil {
		return -1, err
	}
	fd, err := openBeneath(pfd, n.name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, err
	}
	n.fd, n.elem = fd, t.open.PushFront(n)
	if t.open.Len() > maxOpen {
		t.shut(t.open.Back().Value.(*node))
	}
	return fd, nil
}

func (t *tree) shut(n *node) {
	if n.elem != nil {
		t.open.Remove(n.elem)
		unix.Close(n.fd)
		n.elem, n.fd = nil, -1
	}
}

// forget closes all descriptors from n down, which has been moved away. Each node is forgotten once.
func (t *tree) forget(n *node) {
	t.shut(n)
	for _, k := range n.kids {
		t.forget(k)
	}
	n.kids = nil
}

func (n *node) add(name string) *node {
	k := &node{parent: n, name: name, fd: -1}
	if n.kids == nil {
		n.kids = map[string]*node{}
	}
	n.kids[name] = k
	return k
}

// join is the path of a name in n, for messages and as a key; no call is given it.
func (n *node) join(name string) string {
	if n.parent == nil {
		return name
	}
	var parts []string
	for d := n; d.parent != nil; d = d.parent {
		parts = append(parts, d.name)
	}
	var b strings.Builder
	for i := len(parts) - 1; i >= 0; i-- {
		b.WriteString(parts[i])
		b.WriteByte('/')
	}
	b.WriteString(name)
	return b.String()
}

// openBeneath opens one name in a directory. The name has one component and no link is followed (openat2(2), Linux 5.6).
func openBeneath(dir int, name string, flags, mode uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Mode:    mode,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	for {
		fd, err := unix.Openat2(dir, name, &how)
		// EAGAIN: a rename somewhere in the system raced with the lookup.
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

func lstatAt(dir int, name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}

// readlinkAt reads a link of the length that the kernel allows.
func readlinkAt(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
