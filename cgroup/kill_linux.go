package cgroup

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// place is the directory of a group in a hierarchy.
type place struct {
	dir string
	h   *hierarchy
}

// batch is how many processes are held by descriptors at once while they are killed.
const batch = 256

// A killer ends all processes in directories and below them. The last one of a directory uses cgroup.kill where that is
// (v2, Linux 5.14), which kills all at once and whoever they fork meanwhile. While the directory is to be used on it
// must not: from then on the kernel kills whoever is cloned into it (CLONE_INTO_CGROUP) by somebody outside, on 6.1, 6.12
// and 6.18 alike, for it compares how often the one's cgroup and the other's have been killed.
type killer struct {
	ps   []place
	last bool
}

// all kills until nobody is left. Where nobody is none can be born.
func (k killer) all(ctx context.Context) error {
	if n, err := k.count(); err != nil || n == 0 {
		return err
	}
	restore, err := k.noForks()
	if err != nil {
		return errors.Join(err, restore())
	}
	for pause := (backoff{}); ; {
		n, err := k.once()
		if err == nil && n > 0 {
			err = pause.wait(ctx)
		}
		if err != nil || n == 0 {
			return errors.Join(err, restore())
		}
	}
}

// count says how many there are to be killed, of whom the caller must not be one.
func (k killer) count() (int, error) {
	pids, err := members(k.ps)
	if err == nil && slices.Contains(pids, os.Getpid()) {
		err = pathError("kill", k.ps[0].dir, errOwn)
	}
	return len(pids), err
}

// noForks keeps new processes out, so that a fork bomb can't outrun the kills: by the pids controller, and by the freezer
// of v2, where the frozen can be killed. restore thaws who was frozen before, too.
func (k killer) noForks() (restore func() error, err error) {
	var undo []func() error
	restore = func() error {
		var errs []error
		for _, f := range undo {
			errs = append(errs, ignoreGone(f()))
		}
		return errors.Join(errs...)
	}
	for _, p := range k.ps {
		file := p.dir + "/pids.max"
		if p.h.ctl&PIDs != 0 && exists(file) {
			old, err := readFile(file)
			if err == nil {
				undo = append(undo, func() error { return writeFile(file, old) })
				err = writeFile(file, "0")
			}
			if ignoreGone(err) != nil {
				return restore, denied(p.h, err)
			}
		}
		if !p.h.v2 || k.last && exists(p.dir+"/cgroup.kill") {
			continue
		}
		undo = append(undo, func() error { return thaw(p, "/cgroup.freeze", "0") })
		if err := writeFile(p.dir+"/cgroup.freeze", "1"); ignoreGone(err) != nil {
			return restore, denied(p.h, err)
		}
	}
	return restore, nil
}

// once signals everybody, thaws those whom v1 has frozen, and says how many it found.
func (k killer) once() (int, error) {
	pids, err := members(k.ps)
	if err != nil || len(pids) == 0 {
		return 0, err
	}
	for _, p := range k.ps {
		if !k.last || !p.h.v2 {
			continue
		}
		if err := p.h.write(p.dir+"/cgroup.kill", "1"); ignoreGone(err) != nil { // Gone: Linux before 5.14.
			return 0, denied(p.h, err)
		}
	}
	for part := range slices.Chunk(pids, batch) {
		if err := signal(k.ps, part); err != nil {
			return 0, err
		}
	}
	for _, p := range k.ps {
		if p.h.v2 || p.h.ctl&Freezer == 0 {
			continue
		}
		// A task that v1 has frozen does not act on SIGKILL.
		if err := thaw(p, "/freezer.state", "THAWED"); err != nil {
			return 0, err
		}
	}
	return len(pids), nil
}

// thaw lets all in p and below it go on.
func thaw(p place, file, value string) error {
	return walk(p.dir, func(dir string) error { return writeFile(dir+file, value) })
}

// signal kills by descriptor those of pids that are still members when the descriptor holds them: by its number alone
// a process could be another one by then.
func signal(ps []place, pids []int) error {
	fds := make(map[int]int, len(pids))
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		switch {
		case err == nil:
			fds[pid] = fd
		case pid != 0 && err != unix.ESRCH && err != unix.EINVAL: // EINVAL: its leader is gone
			return os.NewSyscallError("pidfd_open", err)
		}
	}
	still, err := members(ps)
	if err != nil {
		return err
	}
	for _, pid := range still {
		fd, ok := fds[pid]
		if !ok {
			continue
		}
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
			return os.NewSyscallError("pidfd_send_signal", err)
		}
	}
	return nil
}

// members lists the processes in ps and below, each once.
func members(ps []place) ([]int, error) {
	var pids []int
	for _, p := range ps {
		err := walk(p.dir, func(dir string) error {
			s, err := readFile(dir + "/cgroup.procs")
			pids = append(pids, parsePIDs(s)...)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// walk calls f for dir and the cgroups below it, inner ones first; what vanishes meanwhile is no fault.
func walk(dir string, f func(string) error) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return ignoreGone(pathError("stat", dir, err))
	}
	if st.Nlink > 2 { // two, and one for each directory in it
		entries, err := os.ReadDir(dir)
		if err != nil {
			return ignoreGone(err)
		}
		for _, e := range entries {
			if !e.IsDir() {
				continue
			}
			if err := walk(dir+"/"+e.Name(), f); err != nil {
				return err
			}
		}
	}
	return ignoreGone(f(dir))
}

// gone tells that a cgroup was removed: its open files answer ENODEV.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) }

func ignoreGone(err error) error {
	if gone(err) {
		return nil
	}
	return err
}

// removeAll removes ps and all below; it waits while they are in use.
func removeAll(ctx context.Context, ps []place) error {
	for pause := (backoff{}); ; {
		err := removeOnce(ps)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		if werr := pause.wait(ctx); werr != nil {
			return errors.Join(werr, err)
		}
	}
}

// removeOnce tries each and returns a fault, EBUSY only if there is no other.
func removeOnce(ps []place) error {
	var busy error
	for _, p := range ps {
		err := p.h.rmdir(p.dir)
		if errors.Is(err, unix.EBUSY) { // somebody is in it, or cgroups are
			err = walk(p.dir, rmdir)
		}
		if err = ignoreGone(err); errors.Is(err, unix.EBUSY) {
			busy = err
		} else if err != nil {
			return denied(p.h, err)
		}
	}
	return busy
}

// backoff is a pause that doubles from 50 µs up to 10 ms.
type backoff struct{ d time.Duration }

// wait pauses, or returns the cause of ctx's end.
func (b *backoff) wait(ctx context.Context) error {
	b.d = min(max(2*b.d, 50*time.Microsecond), 10*time.Millisecond)
	t := time.NewTimer(b.d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
