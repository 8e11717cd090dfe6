package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// The changes of an overlay can be in a file: it has a size, takes no more than is written, and outlives nobody.
func TestOverlayFile(t *testing.T) {
	testenv.Root(t)
	testenv.Leaks(t)
	lower := write(t, t.TempDir(), map[string]string{"f": "lower"})
	dir := t.TempDir()
	o := Overlay{Lower: []string{lower}, File: dir + "/changes", FileSize: 8 << 20, UserNS: newUserNS(t, firstID), Fill: func(upper string) error {
		return os.WriteFile(upper+"/filled", []byte("x"), 0o644)
	}}
	f, err := o.Open(t.Context())
	require.NoError(t, err)
	at := func(name string) string { return fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), name) }
	b, err := os.ReadFile(at("f"))
	require.NoError(t, err)
	require.Equal(t, "lower", string(b))
	require.FileExists(t, at("filled"))
	require.NoError(t, os.WriteFile(at("new"), make([]byte, 4<<20), 0o644))
	require.ErrorIs(t, os.WriteFile(at("big"), make([]byte, 8<<20), 0o644), unix.ENOSPC)
	info, err := os.Stat(o.File)
	require.NoError(t, err)
	require.Equal(t, o.FileSize, info.Size())
	require.NoError(t, os.Remove(o.File), "at any time")
	require.NoError(t, os.WriteFile(at("f"), []byte("upper"), 0o644))
	require.NoError(t, f.Close())

	require.NoError(t, os.WriteFile(o.File, []byte("mine"), 0o644))
	_, err = o.Open(t.Context())
	require.ErrorIs(t, err, fs.ErrExist)
	b, err = os.ReadFile(o.File)
	require.NoError(t, err)
	require.Equal(t, "mine", string(b), "what is there stays")
	require.NoError(t, os.Remove(o.File))
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	_, err = o.Open(ctx)
	require.ErrorIs(t, err, cause)
	require.NoFileExists(t, o.File)
	_, err = lookPath("mke2fs", ":/nonexistent")
	require.ErrorIs(t, err, fs.ErrNotExist)
}
