package tinyinit

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

//go:generate bash src/build

// Open returns the init as a file to be executed by execveat(2) with
// AT_EMPTY_PATH; one serves any number of commands at once. It has no name in
// any file system, and nobody can change it. The caller closes it.
//
// It can be executed but not read, so the kernel keeps who executes it out of
// reach (not dumpable, from the first instruction on: execve(2)), unless
// he has CAP_DAC_READ_SEARCH or CAP_DAC_OVERRIDE over its owner.
//
// dir is for where memory may not be executed (sysctl vm.memfd_noexec=2): there
// the file is one without a name in dir, whose file system must allow execution.
func Open(dir string) (*os.File, error) { return open(dir, "init", initProgram) }

// OpenGuard returns the guard, as Open does the init.
func OpenGuard(dir string) (*os.File, error) { return open(dir, "guard", guardProgram) }

func open(dir, name string, program []byte) (*os.File, error) {
	fd, err := sealed(name, program)
	if err == unix.EACCES {
		fd, err = unnamed(dir, program)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// mode is execution by everybody: as root of a user namespace the one who executes
// it is not its owner.
const mode = 0o111

func sealed(name string, program []byte) (int, error) {
	flags := unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_EXEC)
	if err == unix.EINVAL { // before 6.3, where all are executable
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err == unix.EACCES {
		return -1, err
	}
	if err != nil {
		return -1, os.NewSyscallError("memfd_create", err)
	}
	if err := fill(fd, program); err != nil {
		return -1, err
	}
	seals := unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("fcntl", err)
	}
	return fd, nil
}

// unnamed makes the file in dir. What is open for writing can't be executed
// (ETXTBSY), so it is opened again: by O_PATH, for its mode forbids more.
func unnamed(dir string, program []byte) (int, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, mode)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	if err := fill(fd, program); err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	path := "/proc/self/fd/" + strconv.Itoa(fd)
	again, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return again, nil
}

// fill writes the program, or closes fd.
func fill(fd int, program []byte) error {
	n, err := unix.Write(fd, program)
	if err == nil && n < len(program) {
		err = unix.ENOSPC
	}
	if err == nil {
		err = unix.Fchmod(fd, mode) // whatever the umask
	}
	if err != nil {
		unix.Close(fd)
		return fmt.Errorf("write the program: %w", err)
	}
	return nil
}
