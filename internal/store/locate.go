package store

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// host is where things are on this machine and who asks.
type host struct {
	uid              int
	user             bool // even uid 0 is treated as an ordinary user (tests)
	getenv           func(string) string
	lib, run, users  string // /var/lib/sandbox, /run/sandbox, /run/user
	shm              string // /dev/shm
	temp             string // os.TempDir()
	etc              string // passwd, subuid, subgid
	firstID, finalID uint32 // blocks are taken from here
}

func thisHost() host {
	return host{uid: os.Geteuid(), getenv: os.Getenv, lib: "/var/lib/sandbox", run: "/run/sandbox", users: "/run/user",
		shm: "/dev/shm", temp: os.TempDir(), etc: "/etc", firstID: FirstID, finalID: LastID}
}

// layout is where one store is.
type layout struct {
	dir, run string
	ids      string // claims of blocks; empty: not for this user
	host     host
}

func (h host) root() bool { return h.uid == 0 && !h.user }

// locate finds or makes the store's directory and decides where its records are.
func (h host) locate(dir string) (layout, error) {
	dir, err := h.storeDir(dir)
	if err != nil {
		return layout{}, err
	}
	d, err := openDir(dir)
	if err != nil {
		return layout{}, fail("open store", dir, err)
	}
	defer d.close()
	// One at a time, or two programs would settle on two places for one store. Nobody holds this for long.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := d.lock(ctx, exclusive); err != nil {
		return layout{}, fail("lock store", dir, err)
	}
	if err := checkVersion(dir); err != nil {
		return layout{}, err
	}
	if !h.root() {
		run, err := h.settle(dir)
		return layout{dir: dir, run: run, host: h}, err
	}
	if h.run, err = h.rootRun(); err != nil {
		return layout{}, err
	}
	return layout{dir: dir, run: filepath.Join(h.run, key(dir)), ids: filepath.Join(h.run, "ids"), host: h}, nil
}

// key is the same for all paths that lead to dir, which is a real path.
func key(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10]))
}

// storeDir returns the real path of dir, which it makes when it isn't there.
func (h host) storeDir(dir string) (string, error) {
	if dir == "" {
		return h.defaultDir()
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fail("open store", dir, err)
	}
	return h.ready(dir)
}

func (h host) ready(dir string) (string, error) {
	// 0700: layers contain set-user-id programs of images, which are not for the machine's other users to run.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fail("make store", dir, err)
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", fail("open store", dir, err)
	}
	if err := checkDir(dir, h.uid); err != nil {
		e := &Error{Op: "open store", Path: dir, Err: err, Hint: hint(fs.ErrPermission)}
		return "", e
	}
	return dir, nil
}

// defaultDir is fixed for root. An ordinary user's is the first that can be had: some users have no home.
func (h host) defaultDir() (string, error) {
	if h.root() {
		return h.ready(h.lib)
	}
	var errs []error
	for _, d := range []struct{ env, under string }{{"XDG_DATA_HOME", "sandbox"}, {"HOME", ".local/share/sandbox"}} {
		base := h.getenv(d.env)
		if !filepath.IsAbs(base) { // "must be absolute, ignore if not" (XDG Base Directory Specification)
			continue
		}
		dir, err := h.ready(filepath.Join(base, d.under))
		if err == nil {
			return dir, nil
		}
		errs = append(errs, err)
	}
	dir := filepath.Join(h.temp, "sandbox-"+strconv.Itoa(h.uid))
	if err := privateDir(dir, h.uid); err != nil {
		e := fail("make store", dir, err).(*Error)
		e.Hint = "set XDG_DATA_HOME to a directory of yours"
		return "", errors.Join(append(errs, e)...)
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", fail("open store", dir, err)
	}
	return dir, nil
}

// checkVersion writes the store's format into it once and afterwards refuses a newer one. The caller holds its lock.
func checkVersion(dir string) error {
	path := filepath.Join(dir, "version")
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return writeVersion(path)
	case err != nil:
		return fail("open store", path, err)
	}
	n, err := strconv.Atoi(strings.TrimSuffix(string(b), "\n"))
	switch {
	case err != nil || n < 1:
		return fail("open store", path, corrupt("no version number"))
	case n > Version:
		return fail("open store", path, newer(n))
	}
	return nil
}

func writeVersion(path string) error {
	tmp := path + ".tmp"
	err := errors.Join(unlink(tmp)) // of one who was killed here
	if err == nil {
		err = writeSynced(tmp, []byte(strconv.Itoa(Version)+"\n"))
	}
	if err == nil {
		err = replace(tmp, path)
	}
	if err != nil {
		_ = unlink(tmp)
		return fail("make store", path, err)
	}
	return nil
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}
