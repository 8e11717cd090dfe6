//go:build linux

package main

import (
	"context"
	"os"
	"os/exec"
	"syscall"
)

// command is a program started by os/exec.
type command struct {
	title string
	argv  []string
	files []*os.File
	attr  syscall.SysProcAttr
}

func (c *command) name() string                { return c.title }
func (c *command) setup(context.Context) error { return nil }
func (c *command) teardown() error             { return nil }

func (c *command) once(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	attr := c.attr
	cmd.SysProcAttr, cmd.ExtraFiles = &attr, c.files
	return cmd.Run()
}

func (e *env) osExec() subject { return &command{title: "os/exec", argv: e.argv, files: e.files} }

// inNamespaces is a program in five fresh namespaces, as an ordinary user in a
// user namespace besides.
func (e *env) inNamespaces() subject {
	c := &command{title: "os/exec + pid, mnt, ipc, uts, net", argv: e.host}
	c.attr.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS | syscall.CLONE_NEWNET
	if os.Geteuid() != 0 {
		c.title += ", user"
		c.attr.Cloneflags |= syscall.CLONE_NEWUSER
		c.attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		c.attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return c
}
