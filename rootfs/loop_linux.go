package rootfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// newFileFS makes a file of that size, which takes no more of the disk than is written to it, with an ext4 in it, and
// returns that mounted, attached nowhere: it ends with its last user, and the loop device with it. After an error there is
// no file.
func newFileFS(ctx context.Context, path string, size int64, sync bool) (fd int, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return -1, err
	}
	defer file.Close()
	if err = file.Truncate(size); err == nil {
		err = makeExt4(ctx, path)
	}
	if err == nil {
		fd, err = mountFile(ctx, file, sync)
	}
	if err != nil {
		return -1, errors.Join(err, os.Remove(path))
	}
	return fd, nil
}

// makeExt4 runs mke2fs(8), which is where users' PATHs often don't lead. There is no journal: who mounts it does so once.
func makeExt4(ctx context.Context, path string) error {
	name, err := lookPath("mke2fs", os.Getenv("PATH")+":/usr/sbin:/sbin")
	if err != nil {
		return &UnsupportedError{What: "a file system in a file", Err: err, Remedy: "install e2fsprogs (mke2fs)"}
	}
	cmd := exec.CommandContext(ctx, name, "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-O", "^has_journal",
		"-E", "lazy_itable_init=1,nodiscard,root_owner=0:0", path)
	cmd.Env = []string{"LC_ALL=C"}
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("mke2fs %q: %w: %s", path, err, bytes.TrimSpace(out))
	}
	return nil
}

func lookPath(name, path string) (string, error) {
	for _, dir := range strings.Split(path, ":") {
		if dir == "" {
			continue // the current directory is nobody's PATH
		}
		file := dir + "/" + name
		if unix.Access(file, unix.X_OK) == nil {
			return file, nil
		}
	}
	return "", &fs.PathError{Op: "look for", Path: name, Err: fs.ErrNotExist}
}

// mountFile mounts the ext4 in a file.
func mountFile(ctx context.Context, file *os.File, sync bool) (int, error) {
	device, err := attachLoop(ctx, file)
	if err != nil {
		return -1, err
	}
	defer device.Close() // the mount keeps it
	ext4, err := unix.Fsopen("ext4", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, privileged("ext4 mount", err)
	}
	defer unix.Close(ext4)
	if err := setStrings(ext4, "source", device.Name()); err != nil {
		return -1, err
	}
	flags := []string{"discard"} // what is removed is given back to the disk
	if !sync {
		flags = append(flags, "nobarrier")
	}
	for _, flag := range flags {
		if err := unix.FsconfigSetFlag(ext4, flag); err != nil {
			return -1, explain(ext4, &Error{"fsconfig", flag, err})
		}
	}
	if err := unix.FsconfigCreate(ext4); err != nil {
		return -1, explain(ext4, privileged("ext4 mount", err))
	}
	return unix.Fsmount(ext4, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID)
}

// attachLoop makes a loop device of a file (loop(4)), which ends with the last who has it open or mounted.
func attachLoop(ctx context.Context, file *os.File) (*os.File, error) {
	const control = "/dev/loop-control"
	ctl, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		return nil, &UnsupportedError{What: "a file system in a file", Err: err, Remedy: "needs loop devices: CAP_SYS_ADMIN, and " + control}
	}
	defer ctl.Close()
	for ctx.Err() == nil {
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, privileged("loop device", err)
		}
		device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(file.Fd())}
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
		if err == nil {
			return device, nil
		}
		device.Close()
		if err != unix.EBUSY { // else somebody was faster
			return nil, &fs.PathError{Op: "loop", Path: file.Name(), Err: err}
		}
	}
	return nil, context.Cause(ctx)
}
