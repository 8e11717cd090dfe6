package rootfs

import (
	"context"
	"errors"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// upper is where an overlay writes.
type upper struct {
	name      string // for errors
	work      string // the path of Work; empty in a file system of its own
	dir, wdir int    // descriptors of both directories, on one mount; -1: not made yet
	own       int    // the detached mount of a file system of its own that they are in, or -1
}

func (u *upper) close() {
	if u == nil {
		return
	}
	for _, fd := range []int{u.dir, u.wdir, u.own} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// openUpper returns nil for an overlay without an upper layer; what is wrong with the directories it adds to f.
func (o *Overlay) openUpper(ctx context.Context, f *faults) (*upper, error) {
	u := &upper{name: o.Upper, work: o.Work, dir: -1, wdir: -1, own: -1}
	var err error
	switch {
	case o.TmpfsSize > 0:
		u.name = "tmpfs"
		if u.own, err = newTmpfs(o.TmpfsSize, inodesFor(o.TmpfsSize, o.TmpfsInodes)); err != nil {
			return nil, &Error{"mount", "tmpfs", err}
		}
		return u, nil
	case o.File != "":
		u.name = o.File
		if len(*f) > 0 {
			return nil, nil // they are reported
		}
		if u.own, err = newFileFS(ctx, o.File, o.FileSize, o.Sync); err != nil {
			return nil, &Error{"make file system", o.File, err}
		}
		return u, nil
	case o.Upper == "":
		return nil, nil
	}
	for _, d := range []struct {
		field, path string
		fd          *int
	}{{"Upper", o.Upper, &u.dir}, {"Work", o.Work, &u.wdir}} {
		if *d.fd, err = openDir(unix.AT_FDCWD, d.path); err == nil {
			continue
		}
		*d.fd = -1
		fault := asField(d.field, d.path, err)
		if fault == nil {
			u.close()
			return nil, &Error{"open", d.path, err}
		}
		*f = append(*f, fault)
	}
	if u.dir >= 0 && u.wdir >= 0 && mountID(u.dir) != mountID(u.wdir) {
		f.add("Work", o.Work, invalidf("not on the same mount as Upper %q", o.Upper))
	}
	return u, nil
}

// mountID is 0 where the kernel (before 5.8) can't tell; it then refuses the mount by itself.
func mountID(fd int) uint64 {
	var st unix.Statx_t
	if unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st) != nil {
		return 0
	}
	return st.Mnt_id
}

// fill makes the directories in u's own file system.
func (u *upper) fill(top *unix.Stat_t) error {
	for _, d := range []struct {
		name string
		fd   *int
	}{{"upper", &u.dir}, {"work", &u.wdir}} {
		if err := makeDir(u.own, d.name, top); err != nil {
			return err
		}
		fd, err := openDir(u.own, d.name)
		if err != nil {
			return &Error{"open", d.name, err}
		}
		*d.fd = fd
	}
	return nil
}

// makeDir makes a directory with the owner and mode of like. It is closed to others until it has them.
func makeDir(at int, name string, like *unix.Stat_t) error {
	if err := unix.Mkdirat(at, name, 0o700); err != nil {
		return &Error{"mkdir", name, err}
	}
	fd, err := openDir(at, name)
	if err != nil {
		return &Error{"open", name, err}
	}
	defer unix.Close(fd)
	if err := unix.Fchown(fd, int(like.Uid), int(like.Gid)); err != nil {
		return &Error{"chown", name, err}
	}
	if err := unix.Fchmod(fd, like.Mode&0o7777); err != nil {
		return &Error{"chmod", name, err}
	}
	return nil
}

// MakeUpper makes the directories Upper and Work, whose parents must be there. Both get the owner and mode that the
// topmost lower layer has as seen through UserNS: Upper becomes the mount's root directory, so this is what the
// sandbox finds at "/". An error that is fs.ErrExist says that one is there already. After an error neither is made.
func (o Overlay) MakeUpper(ctx context.Context) error {
	if err := o.makeUpper(ctx); err != nil {
		return &Error{"make upper", o.Upper, err}
	}
	return nil
}

func (o *Overlay) makeUpper(ctx context.Context) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.Upper == "" {
		return &FieldError{"Upper", nil, invalidf("empty")}
	}
	lower := *o
	lower.Lower, lower.Upper, lower.Work = o.Lower[len(o.Lower)-1:], "", ""
	s, err := lower.sources(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	var top unix.Stat_t
	if err := unix.Fstat(s.lower[len(s.lower)-1], &top); err != nil {
		return &Error{"stat", lower.Lower[0], err}
	}
	var made []string
	for _, dir := range []string{o.Upper, o.Work} {
		if err = makeDir(unix.AT_FDCWD, dir, &top); err == nil {
			made = append(made, dir)
			continue
		}
		if !errors.Is(err, unix.EEXIST) {
			made = append(made, dir) // it may have been made and not chowned
		}
		for _, dir := range made {
			_ = unix.Rmdir(filepath.Clean(dir)) // empty, and ours
		}
		return err
	}
	return nil
}
