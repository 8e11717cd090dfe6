package sandbox

import (
	"io"
	"os"
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

	// Stdin is what the command reads. Nil: the null device. An *os.File is
	// passed on unless it is a socket; from any other Reader it is copied, and Wait
	// waits for the copy.
	Stdin io.Reader
	// Stdout and Stderr take what the command writes. Nil: the null device. An
	// *os.File is passed on unless Limits.Output is set; to other Writers it is
	// copied. If both are the same and comparable, they are one pipe: the order is
	// kept, and only one goroutine at a time calls Write.
	Stdout, Stderr io.Writer
	// Pipes makes the named streams pipes whose other ends the Process has.
	Pipes Pipes
	// ExtraFiles[i] becomes descriptor 3+i. Directories, sockets and O_PATH
	// descriptors are refused: they would be ways out.
	ExtraFiles []*os.File

	// Limits bound this command with all its descendants, within those of Options.
	Limits Limits
	// WaitDelay bounds how long Wait waits for the copying of streams after the
	// command has ended; then they are closed and the error is exec.ErrWaitDelay.
	// 0: as long as it takes, but not longer than a second after Run's context or
	// the sandbox ended. Copying ends by itself unless a Reader or Writer
	// blocks, or the command handed its streams to another sandbox's.
	WaitDelay time.Duration
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
