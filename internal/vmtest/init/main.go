//go:build linux

// Command init is the first and only program of a guest: it mounts what tests need, runs /test with the arguments in
// /args, one on each line, says how that ended, and switches the guest off.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	err := errors.Join(mounts(), run())
	fmt.Printf("\nguest: result: %v\n", err)
	unix.Sync()
	err = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	fmt.Println("guest: power off:", err)
	select {}
}

// mounts makes the directories that a test finds on any machine.
func mounts() (err error) {
	for _, m := range []struct{ target, fstype, data string }{
		{"/proc", "proc", ""}, {"/sys", "sysfs", ""}, {"/dev", "devtmpfs", ""}, {"/tmp", "tmpfs", "mode=1777"},
		{"/run", "tmpfs", "mode=755"},
	} {
		err = errors.Join(err, os.MkdirAll(m.target, 0o755))
		if e := unix.Mount(m.fstype, m.target, m.fstype, 0, m.data); e != nil {
			err = errors.Join(err, fmt.Errorf("mount %q: %w", m.target, e))
		}
	}
	return err
}

func run() error {
	args, err := os.ReadFile("/args")
	if err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}); err != nil {
		return err
	}
	pid, err := syscall.ForkExec("/test", append([]string{"/test"}, strings.Split(strings.TrimSpace(string(args)), "\n")...), &syscall.ProcAttr{
		Dir:   "/src",
		Env:   []string{"PATH=/bin:/usr/bin", "HOME=/tmp", "TMPDIR=/tmp", "GOTRACEBACK=all"},
		Files: []uintptr{0, 1, 1},
	})
	if err != nil {
		return fmt.Errorf("exec: %w", err)
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
