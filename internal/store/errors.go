package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
)

// Errors that callers decide on. Each is found by errors.Is in what this package returns.
var (
	// ErrCorrupt is a record, version file or lock file that is half-written, damaged or not ours. It is left as it is.
	ErrCorrupt = errors.New("corrupt or not made by this program")
	// ErrNewer is a store or record written by a newer version of this package. It is left as it is.
	ErrNewer = errors.New("written by a newer version")
	// ErrDead is a name whose sandbox's program died without closing it: Recover or RecoverName frees the name. It is
	// also fs.ErrExist.
	ErrDead = fmt.Errorf("its program died without closing it and it was not recovered yet: %w", fs.ErrExist)
	// ErrExhausted is returned by Block when every block of ids is taken.
	ErrExhausted = errors.New("no block of 65536 ids is free")
	// ErrKeep is what a cleaner returns for a dead owner's record that must stay, as for a detached sandbox.
	ErrKeep = errors.New("record kept")
)

// Error says what was done (Op), to which file or sandbox (Path), why it went wrong (Err, which errors.Is sees
// through) and what to do about it (Hint, empty where there is no advice).
type Error struct {
	Op   string
	Path string
	Err  error
	Hint string
}

// Error is "op "path": cause; hint".
func (e *Error) Error() string {
	s := e.Op + " " + strconv.Quote(e.Path) + ": " + e.Err.Error()
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// fail makes an Error of err. Errors of package os know the path better than the caller, who may have asked for a tree.
func fail(op, path string, err error) error {
	var pe *fs.PathError
	var le *os.LinkError
	switch {
	case errors.As(err, &pe):
		path, err = pe.Path, pe.Err
	case errors.As(err, &le):
		path, err = le.New, le.Err
	}
	return &Error{Op: op, Path: path, Err: err, Hint: hint(err)}
}

// hint says what to do about the errors of a file system that its user can do something about.
func hint(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "free space or inodes there, or open a store on another file system"
	case errors.Is(err, syscall.EROFS):
		return "make it writable (a tmpfs will do for /run), or open a store in another directory"
	case errors.Is(err, fs.ErrPermission):
		return "open a store in a directory that belongs to this user"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "raise RLIMIT_NOFILE"
	}
	return ""
}

// corrupt is ErrCorrupt with its cause as text only: the cause's own identity is no promise.
func corrupt(cause any) error { return fmt.Errorf("%w: %v", ErrCorrupt, cause) }
