package rootfs

import (
	"context"
	"errors"
	"path"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// RemoveAll removes a file, or a directory and all in it; one that is not there is no error. Links are removed, never
// followed, and mounts are EBUSY. Who goes on to make files there can keep it until ctx ends, or it is an ENOTEMPTY;
// directories more than MaxCopyDepth deep are a *LimitError.
func (r *Root) RemoveAll(ctx context.Context, name string) error {
	name = clean(name)
	if name == "/" {
		return pathError("remove", name, errTop)
	}
	fds, _, err := r.call(ctx, nil, func(c *call) { c.Send(c.open(path.Dir(name), unix.O_RDONLY|unix.O_DIRECTORY, 0)) })
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err == nil {
		err = r.removeIn(ctx, fds[0], path.Base(name), 0)
		unix.Close(fds[0])
	}
	return pathError("remove", name, err)
}

// removeTries bounds how often a directory is gone through that somebody fills again.
const removeTries = 8

// removeIn removes a name of the directory dir.
func (r *Root) removeIn(ctx context.Context, dir int, base string, depth int) error {
	if depth > MaxCopyDepth {
		return &LimitError{"depth", MaxCopyDepth}
	}
	for try := 0; ; try++ {
		left, err := r.unlinkIn(ctx, dir, []string{base})
		if err != nil || len(left) == 0 {
			return err
		}
		fds, _, err := r.call(ctx, []int{dir}, func(c *call) {
			c.Send(c.openAt(c.in[0], base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0, unix.RESOLVE_BENEATH))
		})
		if gone(err) && try < removeTries {
			continue // it is something else by now
		}
		if err != nil {
			return err
		}
		err = r.empty(ctx, fds[0], depth)
		unix.Close(fds[0])
		if err == nil {
			err = r.rmdirIn(ctx, dir, base)
		}
		again := errors.Is(err, unix.ENOTEMPTY) || gone(err)
		if !again || try == removeTries {
			return ignore(err, unix.ENOENT)
		}
	}
}

// empty removes what is in a directory.
func (r *Root) empty(ctx context.Context, dir, depth int) error {
	list, err := readDir(ctx, dir, MaxDirEntries)
	if err != nil {
		return err
	}
	for len(list) > 0 {
		n := min(len(list), batchEntries)
		var names []string
		for _, d := range list[:n] {
			names = append(names, d.name)
		}
		list = list[n:]
		left, err := r.unlinkIn(ctx, dir, names)
		if err != nil {
			return err
		}
		for _, d := range left {
			if err := r.removeIn(ctx, dir, d, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// unlinkIn removes names, but for directories in which something is: they are left.
func (r *Root) unlinkIn(ctx context.Context, dir int, names []string) (left []string, err error) {
	var files, dirs []spawn.Ref
	_, p, err := r.call(ctx, []int{dir}, func(c *call) {
		files, dirs = nil, nil
		for _, n := range names {
			files = append(files, c.Try("unlink", n, unix.SYS_UNLINKAT, c.in[0], n, 0))
			dirs = append(dirs, c.Try("rmdir", n, unix.SYS_UNLINKAT, c.in[0], n, unix.AT_REMOVEDIR))
		}
	})
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		e := errnoOf(p.Result(files[i]))
		if e == unix.EISDIR {
			e = errnoOf(p.Result(dirs[i]))
		}
		switch e {
		case 0, unix.ENOENT:
		case unix.ENOTEMPTY, unix.EEXIST, unix.ENOTDIR: // (somebody changed what it is)
			left = append(left, name)
		default:
			return nil, e
		}
	}
	return left, nil
}

func errnoOf(result int) syscall.Errno { return syscall.Errno(-min(result, 0)) }

func (r *Root) rmdirIn(ctx context.Context, dir int, base string) error {
	_, _, err := r.call(ctx, []int{dir}, func(c *call) {
		c.Do("rmdir", base, unix.SYS_UNLINKAT, c.in[0], base, unix.AT_REMOVEDIR)
	})
	return err
}

func ignore(err, which error) error {
	if errors.Is(err, which) {
		return nil
	}
	return err
}
