package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// rootRun returns where root's runtime directories are: h.run, if that will be on tmpfs, else in /dev/shm. In
// containers and small VMs /run is often on disk, where a record costs some twenty times as much. All of the
// machine's programs must come to the same place, so a directory of somebody else in /dev/shm is an error
// and no reason to take another.
func (h host) rootRun() (string, error) {
	base := h.shmDir()
	if onTmpfs(filepath.Dir(h.run)) || !onTmpfs(h.shm) {
		return h.run, nil
	}
	if err := privateDir(base, h.uid); err != nil {
		e := fail("open store", base, err).(*Error)
		e.Hint = "remove it, or mount a tmpfs on " + filepath.Dir(h.run)
		return "", e
	}
	return base, nil
}

// shmDir is this user's directory in /dev/shm. It is never removed again: in a directory that is open to everybody
// its place could be taken.
func (h host) shmDir() string { return filepath.Join(h.shm, "sandbox-"+strconv.Itoa(h.uid)) }

// settle returns the runtime directory of an ordinary user's store and notes it as dir/run. What is noted counts,
// not this program's environment: the user's cron job has no XDG_RUNTIME_DIR but must meet his session's
// sandboxes. A note is out of date when its place is gone, with the user's last session or the machine's.
func (h host) settle(dir string) (string, error) {
	note := filepath.Join(dir, "run")
	under := filepath.Join("sandbox", key(dir))
	fi, err := os.Lstat(note)
	switch {
	case err == nil && fi.IsDir():
		return note, nil
	case err == nil && fi.Mode().Type() == fs.ModeSymlink:
		to, err := os.Readlink(note)
		if base, ok := strings.CutSuffix(to, "/"+under); err == nil && ok && h.private(base) {
			return to, nil
		}
		if err := os.Remove(note); err != nil {
			return "", fail("open store", note, err)
		}
	case err == nil:
		return "", fail("open store", note, corrupt("neither a directory nor a symlink"))
	case !errors.Is(err, fs.ErrNotExist):
		return "", fail("open store", note, err)
	}
	for _, base := range []string{h.getenv("XDG_RUNTIME_DIR"), filepath.Join(h.users, strconv.Itoa(h.uid)), h.shmDir()} {
		if !h.private(base) {
			continue
		}
		to := filepath.Join(base, under)
		if err := os.Symlink(to, note); err != nil {
			return "", fail("open store", note, err)
		}
		return to, nil
	}
	if err := os.Mkdir(note, 0o700); err != nil {
		return "", fail("open store", note, err)
	}
	return note, nil
}

// private says whether base is a runtime directory as the XDG specification wants it, the user's own, and makes the one
// in /dev/shm.
func (h host) private(base string) bool {
	if base == h.shmDir() {
		return onTmpfs(h.shm) && privateDir(base, h.uid) == nil
	}
	return filepath.IsAbs(base) && checkDir(base, h.uid) == nil
}
