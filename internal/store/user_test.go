//go:build linux

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

const nobody = 65534

// asNobody starts a role as an ordinary user, with a copy of the binary where that user may run it.
func asNobody(t *testing.T, role string) (*child, string) {
	t.Helper()
	require.Zero(t, os.Geteuid(), "run the test as root: it becomes an ordinary user itself")
	dir, err := os.MkdirTemp("", "store")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	exe, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, exec.Command("cp", exe, filepath.Join(dir, "test")).Run())
	require.NoError(t, os.Chmod(filepath.Join(dir, "test"), 0o755))
	require.NoError(t, os.Chmod(dir, 0o1777))
	c := newChild(t, role, dir)
	c.Path = filepath.Join(dir, "test")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return c, dir
}

// An ordinary user without a home has a store, and recovers a program of his that was killed.
func TestOrdinaryUser(t *testing.T) {
	victim, dir := asNobody(t, "hold")
	victim.start(t)
	victim.line(t)
	victim.kill(t)
	c := newChild(t, "user", dir)
	c.Path, c.SysProcAttr = victim.Path, victim.SysProcAttr
	c.start(t)
	require.Equal(t, []string{"ok"}, c.finish(t))
	home := filepath.Join(dir, fmt.Sprint("sandbox-", nobody))
	fi, err := os.Stat(home)
	require.NoError(t, err)
	require.Equal(t, fs.ModeDir|0o700, fi.Mode())
	require.Equal(t, []string{filepath.Join(home, "version")}, files(t, home))
	store := filepath.Join(dir, "store")
	require.Equal(t, []string{filepath.Join(store, "version")}, files(t, store))
}

func asUser(h host, dir string) error {
	def, err := h.open("")
	if err != nil {
		return err
	}
	if want := filepath.Join(h.temp, fmt.Sprint("sandbox-", nobody)); def.Dir() != want || def.RunDir() != want+"/run" {
		return fmt.Errorf("default store is %s, %s", def.Dir(), def.RunDir())
	}
	if _, err := def.Block(context.Background()); !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("Block: %v", err)
	}
	if err := churnOnce(def); err != nil {
		return err
	}
	s, err := h.open(dir)
	if err != nil {
		return err
	}
	n := 0
	err = s.Recover(context.Background(), func(_ context.Context, r Record) error { n++; return nil })
	if n != 1 || err != nil {
		return fmt.Errorf("recovered %d: %v", n, err)
	}
	if _, err := h.open("/proc/1/store"); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("open in /proc: %v", err)
	}
	_, err = h.open("/usr")
	if err == nil || !strings.Contains(err.Error(), `open store "/usr": belongs to another user; open a store in a directory`) {
		return fmt.Errorf("open /usr: %v", err)
	}
	_, err = h.open("/usr/sandbox-store")
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "/usr/sandbox-store") {
		return fmt.Errorf("open below /usr: %v", err)
	}
	if err := errors.Join(def.Close(), s.Close()); err != nil {
		return err
	}
	fmt.Println("ok")
	return nil
}

// On a full or read-only disk creating fails with the path and leaves nothing, and what was there is still good.
func TestFullDisk(t *testing.T) {
	require.Zero(t, os.Geteuid(), "run the test as root: it mounts a tmpfs in a mount namespace of its own")
	dir := t.TempDir()
	c := newChild(t, "full", dir)
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	c.start(t)
	require.Equal(t, []string{"ok"}, c.finish(t))
}

func fullDisk(h host, dir string) error {
	root := filepath.Dir(dir)
	if err := syscall.Mount("tmpfs", root, "tmpfs", 0, "size=64k,nr_inodes=20"); err != nil {
		return err
	}
	s, err := h.open(dir)
	if err != nil {
		return err
	}
	e, err := s.Create(Record{Name: "first"})
	if err != nil {
		return err
	}
	big := Record{Name: "big", Labels: map[string]string{"a": strings.Repeat("a", MaxRecord-1000)}}
	wantENOSPC := func(op string, err error) error {
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), s.run) || !strings.Contains(err.Error(), "free space") {
			return fmt.Errorf("%s on a full disk: %v", op, err)
		}
		left, err := os.ReadDir(s.recordPath(""))
		if err != nil || len(left) != 1 {
			return fmt.Errorf("%s on a full disk left %v: %v", op, left, err)
		}
		return nil
	}
	_, err = s.Create(big)
	if err := wantENOSPC("create", err); err != nil {
		return err
	}
	if err := wantENOSPC("update", e.Update(big)); err != nil {
		return err
	}
	for i := 0; ; i++ { // no inodes
		if err := os.WriteFile(filepath.Join(root, fmt.Sprint(i)), nil, 0o600); err != nil {
			break
		}
	}
	_, err = s.Create(Record{Name: "small"})
	if err := wantENOSPC("create without inodes", err); err != nil {
		return err
	}
	if _, err := h.open(filepath.Join(root, "another")); !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("open on a full disk: %v", err)
	}
	if r, err := s.Lookup("first"); err != nil || r.Labels != nil {
		return fmt.Errorf("what was there is %v: %v", r, err)
	}
	if err := syscall.Mount("", root, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err == nil {
		return errors.New("remounted read-only in spite of the handle's file open for writing")
	}
	if err := errors.Join(e.Remove(), s.Close(), syscall.Mount("", root, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "")); err != nil {
		return err
	}
	_, err = h.open(dir)
	if !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "make it writable") {
		return fmt.Errorf("open read-only: %v", err)
	}
	fmt.Println("ok")
	return nil
}
