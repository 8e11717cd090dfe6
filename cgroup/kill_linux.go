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

// killAll kills until nobody is left in ps and below. Where nobody is none can be born.
func killAll(ctx context.Context, ps []place) error {
	if pids, err := members(ps); err != nil || len(pids) == 0 {
		return err
	}
	restore, err := noForks(ps)
	if err != nil {
		return err
	}
	defer restore()
	for pause := (backoff{}); ; {
		n, err := killOnce(ps)
		if err != nil || n == 0 {
			return err
		}
		if err := pause.wait(ctx); err != nil {
			return err
		}
	}
}

// noForks closes the groups to new processes where the pids controller is, so that a fork bomb can't outrun the kills.
func noForks(ps []place) (restore func(), err error) {
	restore = func() {}
	for _, p := range ps {
		file := p.dir + "/pids.max"
		if p.h.ctl&PIDs == 0 || !exists(file) {
			continue
		}
		old, err := readFile(file)
		if err == nil {
			err = writeFile(file, "0")
		}
		if err != nil && !gone(err) {
			return restore, err
		}
		restore = func() { _ = writeFile(file, old) }
	}
	return restore, nil
}

// killOnce signals everybody in ps and below, thaws the frozen, and says how many it found.
func killOnce(ps []place) (int, error) {
	pids, err := members(ps)
	if err != nil || len(pids) == 0 {
		return 0, err
	}
	if slices.Contains(pids, os.Getpid()) {
		return 0, pathError("kill", ps[0].dir, errOwn)
	}
	for _, p := range ps {
		if file := p.dir + "/cgroup.kill"; p.h.v2 && exists(file) {
			if err := writeFile(file, "1"); err != nil && !gone(err) {
				return 0, denied(p.h, err)
			}
		}
	}
	for part := range slices.Chunk(pids, batch) {
		if err := signal(ps, part); err != nil {
			return 0, err
		}
	}
	return len(pids), thaw(ps)
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

// thaw lets the killed die: on v1 a frozen task does not act on SIGKILL.
func thaw(ps []place) error {
	for _, p := range ps {
		if p.h.v2 || p.h.ctl&Freezer == 0 {
			continue
		}
		err := walk(p.dir, func(dir string) error { return writeFile(dir+"/freezer.state", "THAWED") })
		if err != nil {
			return err
		}
	}
	return nil
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
