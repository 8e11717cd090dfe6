package world

import (
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// A Terminal is the size of the one that a command gets.
type Terminal struct{ Rows, Cols uint16 }

// terminalRoot makes usable what a terminal is opened from; NoRef: there is none to be opened.
func (w *World) terminalRoot(p *spawn.Program, c *Command) spawn.Ref {
	if c.Terminal == nil {
		return spawn.NoRef
	}
	return optional(p, w.files[fileRoot])
}

// terminal adds the calls that make a terminal of the World's own devpts, send the embedder both ends, and have stdio begin with
// the command's three times. The child is still root, and the leader of a session that has none.
func (c *Command) terminal(p *spawn.Program, root spawn.Ref, stdio []spawn.Ref) {
	if c.Terminal == nil {
		return
	}
	const ptmx, slave = "/dev/pts/ptmx", "the terminal"
	// From the World's root, whose mounts are no command's: a command that may mount in its own (none may yet) could put a file
	// there that answers the ioctls with numbers of our descriptors (fuse(4)).
	how := p.Words(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS) // struct open_how
	ours := p.Do("open", ptmx, unix.SYS_OPENAT2, root, ptmx[1:], how, 24)
	p.Do("ioctl TIOCSPTLCK", ptmx, unix.SYS_IOCTL, ours, unix.TIOCSPTLCK, p.Words(0))
	// By its name it might be another one by now (ioctl_tty(2), TIOCGPTPEER).
	theirs := p.Do("ioctl TIOCGPTPEER", ptmx, unix.SYS_IOCTL, ours, unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	p.Do("chown", slave, unix.SYS_FCHOWN, theirs, c.IDs.UID, -1) // the group is devpts's
	size := uintptr(c.Terminal.Rows) | uintptr(c.Terminal.Cols)<<16
	p.Do("ioctl TIOCSWINSZ", slave, unix.SYS_IOCTL, theirs, unix.TIOCSWINSZ, p.Words(size)) // struct winsize
	p.Do("ioctl TIOCSCTTY", slave, unix.SYS_IOCTL, theirs, unix.TIOCSCTTY, 0)
	p.Send(ours)
	p.Send(theirs)
	stdio[0], stdio[1], stdio[2] = theirs, theirs, theirs
}
