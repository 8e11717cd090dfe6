//go:build !linux

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"

	"github.com/seed-5a9fb6e0/sandbox/image"
	"github.com/seed-5a9fb6e0/sandbox/rootfs"
)

// Sandboxes are made of Linux namespaces: elsewhere every use is an error.

type box struct{ name string }

func unsupported() error {
	return fmt.Errorf("sandboxes on %s: %w (remedy: run the program on Linux)", runtime.GOOS, errors.ErrUnsupported)
}

func newBox(_ context.Context, o *Options) (*box, error) {
	return nil, errors.Join(unsupported(), o.validate())
}

func (*box) close() error { return nil }

func (*box) files() *rootfs.Root { return nil }

func (*box) commit(context.Context, string, CommitOptions) (*image.Image, error) {
	return nil, unsupported()
}

func (*box) diff(context.Context) ([]Change, error) { return nil, unsupported() }

func (*box) update(Limits) error { return unsupported() }

func (*box) dial(context.Context, string, string) (net.Conn, error) { return nil, unsupported() }

func (*box) listen(context.Context, string, string) (net.Listener, error) { return nil, unsupported() }

// A process can't be made here.
type process struct {
	stdio      *stdio
	pid        int
	gone, done chan struct{}
	result     *Result
	err        error
}

func (c *core) start(ctx context.Context, cmd *Cmd, _ *process) (*process, error) {
	if err := cmd.validate(); err != nil {
		return nil, err
	}
	_, err := c.open(ctx)
	return nil, err
}

func (c *core) run(ctx context.Context, cmd *Cmd) (*process, error) { return c.start(ctx, cmd, nil) }

func (*process) kill(Status, error) error    { return unsupported() }
func (*process) signal(syscall.Signal) error { return unsupported() }
func (*process) supervise()                  {}
func (*process) log() *commandLog            { return nil }
func (*process) isStarted() bool             { return false }
func (*process) isBeside() bool              { return false }
func (*process) stopSignal() syscall.Signal  { return syscall.SIGTERM }

func isPath(*os.File) bool { return false }

func mayPass(*os.File) bool { return false }

func describe(op, name string, err error) error { return &Error{Op: op, Sandbox: name, Err: err} }

type userPool struct{}

func newUserPool() *userPool { return &userPool{} }

func (*userPool) close() {}

type hostBase struct{}

func (*hostBase) close() error { return nil }
