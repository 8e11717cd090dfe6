//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/vmtest/plan"
)

func devices(*plan.Plan) error { return mount("devtmpfs", "/dev", "devtmpfs", 0, "mode=755") }

func modules(p *plan.Plan) error {
	for _, file := range p.Modules {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %q: %w", file, err)
		}
	}
	return nil
}

// root makes the disk the root, as switch_root(8) does: what the initramfs is can't be the old root of pivot_root(2).
func root(p *plan.Plan) error {
	if p.Disk == "" {
		return nil
	}
	if err := appears(p.Disk); err != nil {
		return err
	}
	const dir = "/newroot"
	if err := mount(p.Disk, dir, "ext4", unix.MS_RELATIME, ""); err != nil {
		return err
	}
	if p.Payload != "" {
		if err := os.CopyFS(dir, os.DirFS(p.Payload)); err != nil {
			return err
		}
	}
	if err := unix.Mount("/dev", dir+"/dev", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move /dev: %w", err)
	}
	if err := unix.Chdir(dir); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	return errors.Join(unix.Chroot("."), unix.Chdir("/"))
}

// appears waits for a device whose driver was just loaded.
func appears(device string) error {
	for range 500 {
		if _, err := os.Stat(device); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("%s: no such device after 5 s", device)
}

func mount(source, target, fstype string, flags uintptr, data string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, target, fstype, flags, data); err != nil {
		return fmt.Errorf("mount %q: %w", target, err)
	}
	return nil
}

// mounts makes the directories that a test finds on any machine.
func mounts(p *plan.Plan) error {
	const safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, m := range []struct {
		target, fstype string
		flags          uintptr
		data           string
	}{
		{"/proc", "proc", safe, ""}, {"/sys", "sysfs", safe, ""},
		{"/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
		{"/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"}, {"/dev/mqueue", "mqueue", safe, ""},
		{"/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
	} {
		if err := mount(m.fstype, m.target, m.fstype, m.flags, m.data); err != nil {
			return err
		}
	}
	if p.Disk == "" {
		return mount("tmpfs", "/tmp", "tmpfs", 0, "mode=1777")
	}
	return errors.Join(os.MkdirAll("/tmp", 0o755), os.Chmod("/tmp", 0o1777)) // on the disk: idmapped mounts need ext4 up to Linux 6.3
}

// machine does what an init system does besides.
func machine(*plan.Plan) error {
	for target, link := range map[string]string{"/proc/self/fd": "/dev/fd", "/proc/self/fd/0": "/dev/stdin", "/proc/self/fd/1": "/dev/stdout", "/proc/self/fd/2": "/dev/stderr"} {
		if err := os.Symlink(target, link); err != nil {
			return err
		}
	}
	if err := loopback(); err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	limit := unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}
	return errors.Join(unix.Setrlimit(unix.RLIMIT_NOFILE, &limit), unix.Sethostname([]byte("guest")), becomeLeaf())
}

func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// becomeLeaf moves this process, and so the programs, out of the root of each hierarchy, where limits and the rule of
// no inner processes don't hold, into the group where systemd has itself.
func becomeLeaf() error {
	dirs, err := filepath.Glob("/sys/fs/cgroup/unified")
	if err != nil {
		return err
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.procs"); err == nil {
		dirs = []string{"/sys/fs/cgroup"}
	}
	for _, dir := range dirs {
		leaf := dir + "/init.scope"
		if err := os.Mkdir(leaf, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(leaf+"/cgroup.procs", []byte("0"), 0); err != nil {
			return err
		}
	}
	return nil
}
