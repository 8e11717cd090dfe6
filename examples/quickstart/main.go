// Command quickstart runs a command in a sandbox.
//
// Without arguments it looks around inside one over the host's own userland,
// and tells what held it:
//
//	go run ./examples/quickstart
//
// With -check it tells what this machine can do for sandboxes, and what to do about
// what it can't:
//
//	go run ./examples/quickstart -check
//
// Else it runs the command in an image, or in the host's userland, and exits as
// the command does:
//
//	go run ./examples/quickstart -image alpine:3.20 -memory 64MiB -cpus 0.5 -pids 64 -wall 2s -- echo hello
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/seed-5a9fb6e0/sandbox"
)

func main() {
	// Ctrl-C ends the command and takes the sandbox down; a second one ends this program at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	opts, cmd, check := flags()
	action := run
	switch {
	case check:
		action = checkMachine
	case opts.Image == "" && len(cmd.Args) == 0:
		action = look
	}
	code, err := action(ctx, opts, cmd)
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// flags says what the command line asks for.
func flags() (opts sandbox.Options, cmd *sandbox.Cmd, check bool) {
	cmd = &sandbox.Cmd{}
	flag.BoolVar(&check, "check", false, "tell what this machine can do for sandboxes")
	flag.StringVar(&opts.Image, "image", "", "`reference` of the image to run the command in")
	flag.Func("memory", "`size` of its memory, as 512k, 64MiB or 1GiB", func(s string) (err error) {
		cmd.Limits.Memory, err = parseSize(s)
		return err
	})
	flag.Float64Var(&cmd.Limits.CPUs, "cpus", 0, "`processors` that it may use, as 0.5")
	flag.Int64Var(&cmd.Limits.PIDs, "pids", 0, "`number` of processes and threads")
	flag.DurationVar(&cmd.Limits.Wall, "wall", 0, "`time` after which it is killed, as 2s")
	flag.Parse()
	cmd.Args = flag.Args()
	return opts, cmd, check
}

// checkMachine prints what sandbox.Check finds.
func checkMachine(ctx context.Context, _ sandbox.Options, _ *sandbox.Cmd) (code int, err error) {
	r := sandbox.Check(ctx)
	fmt.Print(r)
	return 0, r.Err()
}

// exitError is the exit code when the command did not run, as docker run has it.
const exitError = 125

// run passes the standard streams through, and sums up on standard error.
func run(ctx context.Context, opts sandbox.Options, cmd *sandbox.Cmd) (code int, err error) {
	opts.Pull.Progress = drawBar
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	res, err := sandbox.Run(ctx, opts, cmd)
	if res == nil {
		return exitError, err
	}
	fmt.Fprintf(os.Stderr, "quickstart: %v after %v%s\n", res, res.Usage.Wall.Round(time.Millisecond), hits(res))
	return res.ExitCode, err
}
