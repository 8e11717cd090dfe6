//go:build unix

package testenv

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lockShared says, for as long as the file is open, that this process may be changing the machine. Several may.
func lockShared() (*os.File, error) {
	f, err := openLock(filepath.Join(os.TempDir(), "sandbox-testenv.lock"))
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_SH)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %q: %w", f.Name(), err), f.Close())
		}
	}
}

// openLock opens it for reading, which is enough for flock(2): other users' tests share it, and with
// fs.protected_regular a file of another user in /tmp can't be opened with O_CREAT, not even by root.
func openLock(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		f, err = os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0o444)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
}

// waitAlone waits until no other test run holds the lock; not longer than limit. The shared lock is given up: nobody who
// waits here changes the machine any more, so that two that wait don't wait for each other.
func waitAlone(f *os.File, limit time.Duration) bool {
	for end := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// lockHolders are the other processes that hold the lock, by /proc/locks (proc_locks(5)).
func lockHolders(f *os.File) map[int]bool {
	if f == nil {
		return nil
	}
	var st unix.Stat_t
	text, err := os.ReadFile("/proc/locks")
	if err != nil || unix.Fstat(int(f.Fd()), &st) != nil {
		return nil
	}
	holders, inode := map[int]bool{}, ":"+strconv.FormatUint(st.Ino, 10)
	for line := range strings.Lines(string(text)) {
		l := strings.Fields(line) // 1: FLOCK ADVISORY READ 4711 fe:00:131 0 EOF
		if len(l) < 6 || l[1] != "FLOCK" || !strings.HasSuffix(l[5], inode) {
			continue
		}
		if pid, err := strconv.Atoi(l[4]); err == nil && pid != os.Getpid() {
			holders[pid] = true
		}
	}
	return holders
}
