//go:build linux

// Command init is the first program of a guest: it makes of a kernel and a file system a machine that tests know, runs
// the programs of its plan, says how each ended, and switches the guest off.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/vmtest/plan"
)

func main() {
	err := run()
	fmt.Printf("\n%s\n", plan.Done(err))
	unix.Sync()
	err = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	fmt.Println("guest: power off:", err)
	select {}
}

func run() error {
	text, err := os.ReadFile(plan.File)
	if err != nil {
		return err
	}
	var p plan.Plan
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	for _, step := range []func(*plan.Plan) error{devices, results, modules, root, mounts, cgroups, machine} {
		if err := step(&p); err != nil {
			return err
		}
	}
	var failed error
	for _, program := range p.Programs {
		fmt.Printf("\n%s\n", program.Begin())
		err := execute(program)
		fmt.Printf("\n%s\n", program.End(err))
		failed = errors.Join(failed, err)
	}
	return failed
}

// results makes the device that the plan names the standard output and error: bytes pass as they are.
func results(p *plan.Plan) error {
	if p.Results == "" {
		return nil
	}
	fd, err := unix.Open(p.Results, unix.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", p.Results, err)
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return fmt.Errorf("%q: %w", p.Results, err)
	}
	t.Oflag &^= unix.OPOST // else each newline gets a carriage return
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return fmt.Errorf("%q: %w", p.Results, err)
	}
	return errors.Join(unix.Dup3(fd, 1, 0), unix.Dup3(fd, 2, 0), unix.Close(fd))
}
