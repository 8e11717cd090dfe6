package cgroup

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What is below a hierarchy's parent is reached from a descriptor of that: a lookup from the root of the file system
// costs cgroupfs some µs more, for it revalidates each component under a lock. Where none is held, or the path is not
// below it, the whole path is used: the descriptor only saves time.

// isOpen says whether the descriptor is held.
func (h *hierarchy) isOpen() bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.open
}

// hold opens the descriptor if that can be had.
func (h *hierarchy) hold() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open {
		return
	}
	if fd, err := openFile(h.parent, unix.O_PATH|unix.O_DIRECTORY); err == nil {
		h.fd, h.open = fd, true
	}
}

// drop closes the descriptor.
func (h *hierarchy) drop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open {
		_ = unix.Close(h.fd)
	}
	h.open = false
}

// at is how path is reached; h.mu is held.
func (h *hierarchy) at(path string) (dirfd int, rel string) {
	if rest, ok := strings.CutPrefix(path, h.parent); ok && h.open && len(rest) > 1 && rest[0] == '/' {
		return h.fd, rest[1:]
	}
	return unix.AT_FDCWD, path
}

func (h *hierarchy) mkdir(path string) error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	fd, rel := h.at(path)
	return pathError("mkdir", path, unix.Mkdirat(fd, rel, 0o755))
}

func (h *hierarchy) rmdir(path string) error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	fd, rel := h.at(path)
	return pathError("rmdir", path, ignoringEINTR(func() error { return unix.Unlinkat(fd, rel, unix.AT_REMOVEDIR) }))
}

func (h *hierarchy) openFile(path string, flags int) (int, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	dirfd, rel := h.at(path)
	for {
		fd, err := unix.Openat(dirfd, rel, flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, pathError("open", path, err)
		}
	}
}

// write writes value by one write(2): the kernel takes each as one command.
func (h *hierarchy) write(path, value string) error {
	fd, err := h.openFile(path, unix.O_WRONLY)
	if err != nil {
		return err
	}
	return writeClose(fd, path, value)
}

// read reads a file that the kernel writes as one piece and cuts blanks off both ends.
func (h *hierarchy) read(path string) (string, error) {
	fd, err := h.openFile(path, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	s, err := readSmall(fd)
	return s, pathError("read", path, err)
}

func writeClose(fd int, path, value string) error {
	defer unix.Close(fd)
	err := ignoringEINTR(func() error { _, err := unix.Write(fd, []byte(value)); return err })
	return pathError("write "+strconv.Quote(value)+" to", path, err)
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
