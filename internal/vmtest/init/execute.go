//go:build linux

package main

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/vmtest/plan"
)

// execute runs a program to its end.
func execute(p plan.Program) error {
	pid, err := syscall.ForkExec(p.Args[0], p.Args, &syscall.ProcAttr{
		Dir: p.Dir, Env: p.Env, Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{Setsid: true}, // what it sends to its own group is not for us
	})
	if err != nil {
		return fmt.Errorf("exec %q: %w", p.Args[0], err)
	}
	return reap(pid)
}

// reap waits for whatever ends, as PID 1 must, until that is pid.
func reap(pid int) error {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait4: %w", err)
		case got == pid && status != 0:
			return fmt.Errorf("wait status %#x", status)
		case got == pid:
			return nil
		}
	}
}
