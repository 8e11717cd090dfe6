package cgroup

import (
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// The files of cgroupfs are opened without package os: it would add each to the runtime's poller (they support poll),
// which costs more than the write.

func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

func openFile(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, pathError("open", path, err)
		}
	}
}

// writeFile is hierarchy.write for a path anywhere.
func writeFile(path, value string) error {
	fd, err := openFile(path, unix.O_WRONLY)
	if err != nil {
		return err
	}
	return writeClose(fd, path, value)
}

// readFile reads up to the end and cuts blanks off both ends.
func readFile(path string) (string, error) {
	fd, err := openFile(path, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	s, err := readAll(fd)
	return s, pathError("read", path, err)
}

// readAll reads from the start of the file, whatever was read before.
func readAll(fd int) (string, error) {
	var small [512]byte
	buf := small[:0]
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := unix.Pread(fd, buf[len(buf):cap(buf)], int64(len(buf)))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return "", err
		case n == 0:
			return strings.TrimSpace(string(buf)), nil
		default:
			buf = buf[:len(buf)+n]
		}
	}
}

// readSmall is readAll for a file that the kernel writes as one piece: what fits into the buffer is all of it.
func readSmall(fd int) (string, error) {
	var buf [1024]byte
	for {
		n, err := unix.Pread(fd, buf[:], 0)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return "", err
		case n == len(buf):
			return readAll(fd)
		default:
			return strings.TrimSpace(string(buf[:n])), nil
		}
	}
}

func mkdir(dir string) error { return pathError("mkdir", dir, unix.Mkdir(dir, 0o755)) }

func rmdir(dir string) error {
	return pathError("rmdir", dir, ignoringEINTR(func() error { return unix.Rmdir(dir) }))
}

func exists(path string) bool { return unix.Access(path, unix.F_OK) == nil }
