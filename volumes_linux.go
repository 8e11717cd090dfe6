package sandbox

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/store"
	"github.com/seed-5a9fb6e0/sandbox/rootfs"
)

// Volumes lists the names of the store's volumes (rootfs.Volume), sorted.
func (s *Store) Volumes(context.Context) ([]string, error) {
	dir, err := s.state.Sub(store.Volumes)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, &Error{Op: "list volumes", Path: dir, Err: err}
	}
	var names []string
	for _, e := range entries {
		if store.CheckName(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// RemoveVolume removes a volume with all that is in it. One that sandboxes have mounted is ErrInUse, one that is not there
// fs.ErrNotExist.
func (s *Store) RemoveVolume(ctx context.Context, name string) error {
	if err := s.removeVolume(ctx, name); err != nil {
		return &Error{Op: "remove volume", Path: name, Err: err}
	}
	return nil
}

func (s *Store) removeVolume(ctx context.Context, name string) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	dir, err := s.state.Sub(store.Volumes)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, name)
	f, err := lockUnused(ctx, path)
	if err != nil {
		return err
	}
	defer f.Close()
	// Out of sight at once: whoever opened it finds another directory, or none, when he has the lock.
	trash := filepath.Join(dir, removed+store.NewName())
	if err := os.Rename(path, trash); err != nil {
		return err
	}
	return removeUpper(ctx, trash)
}

// lockUnused locks a volume that nobody uses. A program that is just being started by this one, newuidmap(1) say, has
// our descriptors until its exec, also of a sandbox that was closed meanwhile.
func lockUnused(ctx context.Context, path string) (*os.File, error) {
	const patience = 300 * time.Millisecond
	for end := time.Now().Add(patience); ; {
		f, err := lockVolume(path, unix.LOCK_EX)
		switch {
		case !errors.Is(err, unix.EWOULDBLOCK):
			return f, err
		case time.Now().After(end):
			return nil, ErrInUse
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// removed begins the names of volumes that are being removed.
const removed = ".removed-"

// sweepVolumes removes what dead programs began to remove, or to make.
func (s *Store) sweepVolumes(ctx context.Context) error {
	dir, err := s.state.Sub(store.Volumes)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), removed) && !strings.HasPrefix(e.Name(), making) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if f, err := lockVolume(path, unix.LOCK_EX); err == nil { // else somebody is at it
			errs = append(errs, removeUpper(ctx, path))
			f.Close()
		}
	}
	return errors.Join(errs...)
}

// making begins the names of volumes that are being made: until all that they begin with is in them.
const making = ".making-"

// volume locks a volume, shared, for as long as the file is open. Where there is none it begins one, which nobody else
// has (made) until it gets its name.
func (s *Store) volume(ctx context.Context, name string) (f *os.File, made bool, err error) {
	dir, err := s.state.Sub(store.Volumes)
	if err != nil {
		return nil, false, err
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		f, err = lockVolume(filepath.Join(dir, name), unix.LOCK_SH)
		if errors.Is(err, fs.ErrNotExist) {
			f, err = beginVolume(ctx, dir, name)
			made = true
		}
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, fs.ErrNotExist) {
			return f, made && err == nil, err
		}
		made = false
		select { // it is being removed, or made
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// beginVolume makes and locks the directory of a new volume. It is EWOULDBLOCK while another one does, and fs.ErrNotExist when
// he has just done it.
func beginVolume(ctx context.Context, dir, name string) (*os.File, error) {
	path := filepath.Join(dir, making+name)
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	f, err := lockVolume(path, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	again := &fs.PathError{Op: "make volume", Path: path, Err: fs.ErrNotExist}
	_, err = os.Lstat(filepath.Join(dir, name))
	left, rerr := os.ReadDir(path)
	if err == nil || len(left) > 0 || rerr != nil { // it has its name already, or somebody died over this one
		err = errors.Join(rerr, removeUpper(ctx, path))
		f.Close()
		if err == nil {
			err = again
		}
		return nil, err
	}
	if err := f.Chmod(0o755); err != nil { // whatever the umask
		f.Close()
		return nil, err
	}
	return f, nil
}

// A newVolume is one that a box makes.
type newVolume struct {
	name   string
	file   *os.File // locked
	target string   // where what it begins with is covered by it
	named  bool
}

// volume locks a volume for the box.
func (b *box) volume(ctx context.Context, name string) (*os.File, error) {
	if v := b.made[name]; v != nil {
		return v.file, nil
	}
	f, made, err := b.store.volume(ctx, name)
	if err != nil {
		return nil, err
	}
	b.volumes = append(b.volumes, f)
	if made {
		if b.made == nil {
			b.made = map[string]*newVolume{}
		}
		b.made[name] = &newVolume{name: name, file: f}
	}
	return f, nil
}

// fillVolumes copies into the box's new volumes what they cover of its image, and gives them their names.
func (b *box) fillVolumes(ctx context.Context) error {
	covered := b.world.Covered()
	defer func() {
		for _, f := range covered {
			f.Close()
		}
	}()
	at := map[string]*os.File{}
	for _, f := range covered {
		at[f.Name()] = f
	}
	for _, v := range b.made {
		err := error(nil)
		if from := at[v.target]; from != nil {
			err = b.fillVolume(ctx, v, from)
		}
		if err == nil {
			err = v.giveName()
		}
		if err != nil {
			return &Error{Op: "make volume", Path: v.name, Err: err}
		}
	}
	return nil
}

func (b *box) fillVolume(ctx context.Context, v *newVolume, covered *os.File) error {
	from, to, options := b.rootAt(covered), b.rootAt(v.file), rootfs.CopyOptions{KeepOwner: true}
	if b.user.outside() { // on the disk a volume's ids are those that its files have inside
		to = rootfs.NewRoot(v.file, nil, 0, 0)
	}
	read, write := io.Pipe()
	over := make(chan struct{})
	go func() { // ends when the reader closes
		defer close(over)
		write.CloseWithError(from.CopyOut(ctx, "/", write, options))
	}()
	err := to.CopyIn(ctx, "/", read, options)
	read.CloseWithError(os.ErrClosed)
	<-over
	if err == nil {
		err = likeTop(from, to)
	}
	return err
}

// giveName has others find the volume.
func (v *newVolume) giveName() error {
	dir := filepath.Dir(v.file.Name())
	if err := unix.Renameat2(unix.AT_FDCWD, v.file.Name(), unix.AT_FDCWD, filepath.Join(dir, v.name), unix.RENAME_NOREPLACE); err != nil {
		return &os.PathError{Op: "rename", Path: v.file.Name(), Err: err}
	}
	v.named = true
	return unix.Flock(int(v.file.Fd()), unix.LOCK_SH) // never waits: ours becomes less
}

// likeTop gives the top of a tree owner and mode of another's.
func likeTop(from, to *rootfs.Root) error {
	info, err := from.Stat("/")
	if err != nil {
		return err
	}
	st := info.Sys().(*unix.Statx_t)
	return errors.Join(to.Chown("/", int(st.Uid), int(st.Gid)), to.Chmod("/", info.Mode()))
}

// closeVolumes lets go of the box's volumes, and removes those that have got no name.
func (b *box) closeVolumes(ctx context.Context) error {
	var errs []error
	for _, v := range b.made {
		if !v.named {
			errs = append(errs, removeUpper(ctx, v.file.Name()))
		}
	}
	for _, f := range b.volumes {
		f.Close()
	}
	return errors.Join(errs...)
}

// lockVolume opens and locks a directory (flock(2)), or gives EWOULDBLOCK. One that was moved away meanwhile is
// fs.ErrNotExist.
func lockVolume(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err == nil {
		err = standsAt(f, path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func standsAt(f *os.File, path string) error {
	held, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := os.Lstat(path)
	if err == nil && !os.SameFile(held, named) {
		err = &fs.PathError{Op: "lock", Path: path, Err: fs.ErrNotExist}
	}
	return err
}
