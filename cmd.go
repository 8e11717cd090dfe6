package sandbox

import (
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// A Cmd says what to run. It is pure data: it is never modified and may be used
// again, at the same time too if its Readers and Writers allow that.
type Cmd struct {
	// Args is the exact argument vector. Args[0] is looked up in the sandbox, in
	// the directories of its PATH unless it has a slash. Empty: the image's
	// entrypoint and command.
	Args []string
	// Entrypoint puts the image's entrypoint in front of Args, as docker run does.
	Entrypoint bool
	// Env are "KEY=value" pairs over those of Options and the image.
	Env []string
	// Dir is the working directory, an absolute path that must be there. Empty: Options.Dir.
	Dir string
	// User is as Options.User. Empty: that.
	User string

	// Stdin is what the command reads. Nil: the null device. An *os.File that is
	// a pipe or a device is passed on. So is a regular one if the embedder is root
	// and its mode gives others nothing: else a command could open it again by
	// /proc/self/fd, with more rights than the descriptor has. From everything
	// else it is copied, and Wait waits for the copy.
	Stdin io.Reader
	// Stdout and Stderr take what the command writes. Nil: the null device. An
	// *os.File is passed on as Stdin is, unless Limits.Output or Log is set; to other
	// Writers it is copied. If both are the same and comparable, they are one pipe: the order is
	// kept, and only one goroutine at a time calls Write.
	Stdout, Stderr io.Writer
	// Pipes makes the named streams pipes whose other ends the Process has.
	Pipes Pipes
	// TTY gives the command a terminal, of the sandbox's own, which it controls: its standard input, output and error.
	// Stdin, or what is written to Process.Stdin, is what is typed; its end is nothing that a terminal could tell: a program
	// that is to see one gets the character for that ("\x04") from the Reader. All that is written to the terminal comes by
	// Stdout, its echo and "\r\n" for "\n" included, and counts for Limits.Output; nil: it is dropped. Stderr and PipeStderr
	// are errors. A file is copied, not passed on, and Stdin read no longer than the command lives; another Reader that
	// blocks then holds Wait up as without a terminal. Process.Resize changes its size. To close Process.Stdin does not hang
	// up, to close Process.Stdout does. What processes that the command left behind, or others of the sandbox, write to it
	// after the command's end is lost. TERM is "xterm" unless Env, the Options' or the image's says otherwise. Nil: none.
	TTY *TTY
	// Log keeps what the command writes to its standard output and error or its terminal, for Process.Logs, whether Stdout and
	// Stderr are set or not; a file is then copied, not passed on. What Limits.Output cuts off is not in it. It can't be had beside
	// PipeStdout or PipeStderr. A log that can't be written ends there (ENOSPC, for example): the command goes on, the Writers get
	// all, and Wait returns the error. Nil: nothing is kept.
	Log *Log
	// ExtraFiles[i] becomes descriptor 3+i. Directories, sockets and O_PATH
	// descriptors are refused: they would be ways out. A regular file can be opened
	// again by /proc/self/fd with all that its mode allows others and, where the
	// embedder is an ordinary user, its owner: pass none that a hostile command
	// may not have.
	ExtraFiles []*os.File

	// Files are written before the command starts, as its user's, and are gone with it: into Tmpfs Mounts of the
	// sandbox that are PerRun, where they count.
	Files []File

	// Init puts a tiny PID 1 in front of the command, which then is PID 2: signals
	// that it sends itself and abort() end it as they should, and its orphans are reaped. A judge wants
	// it, and whatever starts many processes. Else the command is PID 1, as in Docker;
	// the package comment has all differences.
	Init bool

	// Limits bound this command with all its descendants, within those of Options.
	Limits Limits
	// DropOutput lets a command go on that has written more than Limits.Output: what
	// is more is read and dropped. The Result has the Hit, and Usage.Output all.
	DropOutput bool
	// StopSignal is what Process.Stop sends. 0: what the image says, else SIGTERM.
	StopSignal syscall.Signal
	// WaitDelay bounds how long Wait waits for the copying of streams after the
	// command has ended; then they are closed and the error is exec.ErrWaitDelay.
	// 0: as long as it takes, but not longer than a second after Run's context or
	// the sandbox ended. Copying ends by itself unless a Reader or Writer blocks, or
	// the command sent its streams over a unix socket to somebody who still lives:
	// set it for hostile commands where there is one.
	WaitDelay time.Duration

	idle bool // of Idle
}

// A File is one of Cmd.Files.
type File struct {
	// Name is an absolute path below the Target of a rootfs.Tmpfs with Scope PerRun. Directories in between are made.
	Name string
	// Data is what it contains, at most 64 MiB (rootfs.MaxFileData). It must not be changed until the command has started.
	Data []byte
	// Mode has its permission bits. 0: 0644.
	Mode fs.FileMode
}

// Pipes names streams of a command.
type Pipes uint8

// The streams that Cmd.Pipes can name, to be combined by |.
const (
	PipeStdin Pipes = 1 << iota
	PipeStdout
	PipeStderr
)

// Command returns the Cmd that runs name with the given arguments.
func Command(name string, arg ...string) *Cmd {
	return &Cmd{Args: append([]string{name}, arg...)}
}

// Entrypoint returns the Cmd that runs the image's entrypoint, with the given
// arguments or, without any, with the image's own.
func Entrypoint(arg ...string) *Cmd {
	return &Cmd{Args: arg, Entrypoint: true}
}
