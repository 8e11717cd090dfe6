package sandbox

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// diff reads the upper layer as a layer of an image, and looks in those below what was there before.
func (b *box) diff(ctx context.Context) (list []Change, err error) {
	lower, err := openLayers(b.layers())
	defer lower.close()
	if err != nil {
		return nil, err
	}
	layer, done, err := b.layer(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	for r := tar.NewReader(layer); ; {
		h, err := r.Next()
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		name := path.Clean("/" + h.Name)
		switch {
		case name == "/", path.Base(name) == ".wh..wh..opq":
			continue
		case strings.HasPrefix(path.Base(name), ".wh."):
			name = path.Join(path.Dir(name), strings.TrimPrefix(path.Base(name), ".wh."))
			if was, err := lower.has(name); err != nil {
				return nil, err
			} else if was { // else it was made and removed since
				list = append(list, Change{name, Deleted})
			}
			continue
		}
		was, err := lower.has(name)
		if err != nil {
			return nil, err
		}
		c := Change{name, Added}
		if was {
			c.Kind = Modified
		}
		list = append(list, c)
	}
}

// lowerDirs are the layers of an overlay, the topmost first, as descriptors.
type lowerDirs []int

func openLayers(dirs []string) (l lowerDirs, err error) {
	for i := len(dirs) - 1; i >= 0; i-- {
		fd, err := unix.Open(dirs[i], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return l, &os.PathError{Op: "open", Path: dirs[i], Err: err}
		}
		l = append(l, fd)
	}
	return l, nil
}

func (l lowerDirs) close() {
	for _, fd := range l {
		unix.Close(fd)
	}
}

// has says whether the layers together show a name.
func (l lowerDirs) has(name string) (bool, error) {
	for _, dir := range l {
		found, hides, err := look(dir, name)
		if err != nil {
			return false, &os.PathError{Op: "lstat", Path: name, Err: err}
		}
		if found || hides {
			return found, nil
		}
	}
	return false, nil
}

// look finds a name in one layer. It hides those below where it, or a directory that it is in, is removed, replaced by
// something that is no directory, or opaque.
func look(layer int, name string) (found, hides bool, err error) {
	at, opened := layer, false
	defer func() {
		if opened {
			unix.Close(at)
		}
	}()
	parts := strings.Split(name[1:], "/")
	for i, part := range parts {
		var st unix.Stat_t
		err := unix.Fstatat(at, part, &st, unix.AT_SYMLINK_NOFOLLOW)
		if errors.Is(err, unix.ENOENT) {
			return false, hides, nil
		}
		kind := st.Mode & unix.S_IFMT
		switch {
		case err != nil:
			return false, false, err
		case kind == unix.S_IFCHR && st.Rdev == 0:
			return false, true, nil
		case i == len(parts)-1:
			return true, false, nil
		case kind != unix.S_IFDIR:
			return false, true, nil
		}
		next, err := unix.Openat(at, part, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return false, false, err
		}
		if opened {
			unix.Close(at)
		}
		at, opened = next, true
		hides = hides || opaque(at)
	}
	return false, hides, nil
}

// opaque goes by /proc: fgetxattr(2) takes no descriptor that is only a path.
func opaque(dir int) bool {
	var b [2]byte
	for _, attr := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		if n, err := unix.Getxattr(fmt.Sprintf("/proc/self/fd/%d", dir), attr, b[:]); err == nil && n == 1 && b[0] == 'y' {
			return true
		}
	}
	return false
}
