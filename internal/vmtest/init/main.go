//go:build linux

// Command init is the first and only program of a guest: it mounts what tests need, runs /test with the arguments in
// /args, one on each line, says how that ended, and switches the guest off.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

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
	cmd := exec.Command("/test", strings.Split(strings.TrimSpace(string(args)), "\n")...)
	cmd.Dir = "/src"
	cmd.Env = []string{"PATH=/bin:/usr/bin", "HOME=/tmp", "TMPDIR=/tmp", "GOTRACEBACK=all"}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	return cmd.Run()
}
