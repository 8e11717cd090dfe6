package spawn

import (
	"fmt"
	"io/fs"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// Error says which call of a program stopped it.
type Error struct {
	Op     string        // the man page's verb: "mount", "setns"
	Path   string        // the object, may be empty
	Errno  syscall.Errno // why; 0 if the call returned something else than it had to
	Result int           // with Errno 0: what the call returned
	Killed bool          // the child was killed from outside
}

func (e *Error) Error() string {
	s := e.Op
	if e.Path != "" {
		s += fmt.Sprintf(" %q", e.Path)
	}
	switch {
	case e.Killed:
		return s + ": killed before it ran the command"
	case e.Errno == 0:
		return fmt.Sprintf("%s: returned %d, not 0", s, e.Result)
	}
	return s + ": " + e.Errno.Error()
}

func (e *Error) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// ExecError says why none of a command's paths could be executed.
type ExecError struct {
	Path  string // the path that says most: one that exists, else the first
	Errno syscall.Errno
	Paths []string // all that were tried
	// BadInterpreter: the file is there, the interpreter or dynamic loader
	// that it names is not.
	BadInterpreter bool
}

func (e *ExecError) Error() string {
	switch {
	case e.BadInterpreter:
		return fmt.Sprintf("exec %q: its interpreter or dynamic loader is not there: %v", e.Path, e.Errno)
	case e.Errno == unix.ENOENT && len(e.Paths) != 1:
		return fmt.Sprintf("exec: not found: tried %q", e.Paths)
	}
	return fmt.Sprintf("exec %q: %v", e.Path, e.Errno)
}

// Unwrap makes a command that is not there fs.ErrNotExist and exec.ErrNotFound,
// one that can't be executed fs.ErrPermission.
func (e *ExecError) Unwrap() []error {
	if e.Errno == unix.ENOENT && !e.BadInterpreter {
		return []error{e.Errno, exec.ErrNotFound, fs.ErrNotExist}
	}
	return []error{e.Errno}
}

// execError weighs the attempts: a file that is there and could not be
// executed says more than one that is not there (as execvp(3) has it).
func (p *Program) execError() error {
	best := &ExecError{Errno: unix.ENOENT}
	missing := true
	for i, a := range p.attempts {
		errno := syscall.Errno(-p.Result(a.exec))
		noInterp := errno == unix.ENOENT && p.Result(a.exists) == 0
		absent := !noInterp && (errno == unix.ENOENT || errno == unix.ENOTDIR && len(p.attempts) > 1)
		best.Paths = append(best.Paths, a.path)
		if i == 0 || missing && !absent {
			best.Path, best.Errno, best.BadInterpreter, missing = a.path, errno, noInterp, absent
		}
	}
	if missing {
		best.Errno = unix.ENOENT
	}
	return best
}
