package image

import (
	"container/list"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// lowers are the layers below the one that is being unpacked, looked at as overlayfs shows them.
type lowers struct {
	root  *stack
	cache map[*node]*stack
	used  *list.List // *stack, most recently used first
	fds   int        // descriptors in used
}

// stack are the directories that overlayfs merges into one, topmost first.
type stack struct {
	n    *node
	fds  []int // O_PATH
	elem *list.Element
}

// lower is what a lookup found.
type lower struct {
	dir int // descriptor of the directory, good until the next lookup
	st  unix.Stat_t
}

func (l lower) isDir() bool  { return l.st.Mode&unix.S_IFMT == unix.S_IFDIR }
func (l lower) isLink() bool { return l.st.Mode&unix.S_IFMT == unix.S_IFLNK }

// maxLowerFDs bounds the cached descriptors. One directory of an image of 500 layers may need 500.
const maxLowerFDs = 512

func openLowers(dirs []string) (*lowers, error) {
	l := &lowers{root: &stack{}, cache: map[*node]*stack{}, used: list.New()}
	for _, dir := range dirs {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			l.close()
			return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
		}
		l.root.fds = append(l.root.fds, fd)
	}
	return l, nil
}

func (l *lowers) close() {
	for l.used.Len() > 0 {
		l.drop(l.used.Back().Value.(*stack))
	}
	closeAll(l.root.fds)
}

func (l *lowers) drop(s *stack) {
	l.used.Remove(s.elem)
	delete(l.cache, s.n)
	l.fds -= len(s.fds)
	closeAll(s.fds)
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// lookup finds a name in a directory that this layer has too.
func (l *lowers) lookup(dir *node, name string) (lower, bool, error) {
	s, err := l.stack(dir)
	if err != nil {
		return lower{}, false, err
	}
	for _, fd := range s.fds {
		st, err := lstatAt(fd, name)
		switch {
		case err == unix.ENOENT:
			continue
		case err != nil:
			return lower{}, false, err
		}
		return lower{dir: fd, st: st}, !isWhiteout(st), nil
	}
	return lower{}, false, nil
}

// stack gives the directories below n. The recursion is as deep as the path; what it opened for the parents may have
// been closed again when the cache is full, never what it returns.
func (l *lowers) stack(n *node) (*stack, error) {
	if n.parent == nil {
		return l.root, nil
	}
	if s := l.cache[n]; s != nil {
		l.used.MoveToFront(s.elem)
		return s, nil
	}
	p, err := l.stack(n.parent)
	if err != nil {
		return nil, err
	}
	s := &stack{n: n}
	if s.fds, err = openMerged(p.fds, n.name); err != nil {
		return nil, err
	}
	for l.fds+len(s.fds) > maxLowerFDs && l.used.Len() > 0 {
		l.drop(l.used.Back().Value.(*stack))
	}
	s.elem, l.cache[n] = l.used.PushFront(s), s
	l.fds += len(s.fds)
	return s, nil
}

// openMerged opens name in each of the directories, from the top to where something hides the rest.
func openMerged(parents []int, name string) ([]int, error) {
	var fds []int
	for _, p := range parents {
		fd, err := openBeneath(p, name, unix.O_PATH|unix.O_DIRECTORY, 0)
		switch err {
		case nil:
		case unix.ENOENT:
			continue
		case unix.ENOTDIR, unix.ELOOP: // a file, whiteout or link
			return fds, nil
		default:
			closeAll(fds)
			return nil, err
		}
		fds = append(fds, fd)
		if isOpaque(fd) {
			break
		}
	}
	return fds, nil
}

// isOpaque goes by /proc, as fgetxattr(2) refuses descriptors that are only paths, and others need read permission.
func isOpaque(fd int) bool {
	var b [1]byte
	for _, attr := range opaqueAttrs {
		n, err := unix.Getxattr(fmt.Sprintf("/proc/self/fd/%d", fd), attr, b[:])
		if err == nil && n == 1 && b[0] == 'y' {
			return true
		}
	}
	return false
}

func isWhiteout(st unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 }
