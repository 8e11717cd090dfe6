//go:build linux

package store

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// userHost decides as for an ordinary user: his uid is that of the test, but not root's rules.
func userHost(t *testing.T) (host, map[string]string) {
	t.Helper()
	h := testHost(t, "")
	h.user = true
	env := map[string]string{}
	h.getenv = func(k string) string { return env[k] }
	return h, env
}

func TestDefaultDir(t *testing.T) {
	for name, c := range map[string]struct {
		env  map[string]string // relative to the test's directory, but for a leading !
		want string
	}{
		"data home":             {map[string]string{"XDG_DATA_HOME": "data", "HOME": "home"}, "data/sandbox"},
		"home":                  {map[string]string{"HOME": "home"}, "home/.local/share/sandbox"},
		"relative is ignored":   {map[string]string{"XDG_DATA_HOME": "!data", "HOME": "home"}, "home/.local/share/sandbox"},
		"home is unusable":      {map[string]string{"XDG_DATA_HOME": "!/dev/null", "HOME": "!/proc/1/x"}, "sandbox-UID"},
		"home is not directory": {map[string]string{"HOME": "!/dev/null"}, "sandbox-UID"},
		"none":                  {nil, "sandbox-UID"},
	} {
		t.Run(name, func(t *testing.T) {
			h, env := userHost(t)
			for k, v := range c.env {
				if env[k] = filepath.Join(h.temp, v); v[0] == '!' {
					env[k] = v[1:]
				}
			}
			want := filepath.Join(h.temp, c.want)
			if c.want == "sandbox-UID" {
				want = filepath.Join(h.temp, "sandbox-"+uidText(h))
			}
			s := openTest(t, h, "")
			require.Equal(t, want, s.Dir())
		})
	}
	h := testHost(t, "")
	if h.root() {
		require.Equal(t, h.lib, openTest(t, h, "").Dir())
	}
}

func uidText(h host) string { return filepath.Base(h.shmDir())[len("sandbox-"):] }

func TestDirRefused(t *testing.T) {
	t.Run("temp is a symlink", func(t *testing.T) {
		h, _ := userHost(t)
		require.NoError(t, os.Symlink(t.TempDir(), filepath.Join(h.temp, "sandbox-"+uidText(h))))
		_, err := h.open("")
		require.ErrorContains(t, err, "set XDG_DATA_HOME")
	})
	t.Run("temp of another", func(t *testing.T) {
		require.Zero(t, os.Geteuid())
		h, _ := userHost(t)
		dir := filepath.Join(h.temp, "sandbox-"+uidText(h))
		require.NoError(t, os.Mkdir(dir, 0o777))
		require.NoError(t, os.Chown(dir, nobody, nobody))
		_, err := h.open("")
		require.ErrorIs(t, err, errOwner)
	})
	t.Run("temp is loose", func(t *testing.T) { // ours: made tight
		h, _ := userHost(t)
		dir := filepath.Join(h.temp, "sandbox-"+uidText(h))
		require.NoError(t, os.Mkdir(dir, 0o755))
		require.Equal(t, dir, openTest(t, h, "").Dir())
		fi, err := os.Stat(dir)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o700), fi.Mode().Perm())
	})
	t.Run("everybody's", func(t *testing.T) {
		h := testHost(t, "")
		dir := filepath.Join(h.temp, "store")
		require.NoError(t, os.Mkdir(dir, 0o700))
		require.NoError(t, os.Chmod(dir, 0o777))
		_, err := h.open(dir)
		require.ErrorIs(t, err, errWritable)
	})
	t.Run("a file", func(t *testing.T) {
		h := testHost(t, "")
		_, err := h.open("/dev/null")
		require.ErrorContains(t, err, `"/dev/null": not a directory`)
	})
	for name, c := range map[string]struct {
		text string
		want error
	}{"newer": {"2\n", ErrNewer}, "empty": {"", ErrCorrupt}, "text": {"x", ErrCorrupt}} {
		t.Run("version "+name, func(t *testing.T) {
			h := testHost(t, "")
			dir := filepath.Join(h.temp, "store")
			require.NoError(t, os.Mkdir(dir, 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "version"), []byte(c.text), 0o600))
			_, err := h.open(dir)
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, dir)
			require.Len(t, files(t, h.temp), 2)
		})
	}
}

// Two handles of one store meet, by whatever path and in whatever environment.
func TestHandlesMeet(t *testing.T) {
	h := testHost(t, "")
	dir := filepath.Join(h.temp, "store")
	a := openTest(t, h, dir)
	require.NoError(t, os.Symlink(dir, filepath.Join(h.temp, "link")))
	b := openTest(t, h, filepath.Join(h.temp, "link"))
	require.Equal(t, a.RunDir(), b.RunDir())
	require.NotEqual(t, a.Owner(), b.Owner())

	h, env := userHost(t)
	dir = filepath.Join(h.temp, "store")
	env["XDG_RUNTIME_DIR"] = t.TempDir()
	a = openTest(t, h, dir)
	require.Equal(t, filepath.Join(env["XDG_RUNTIME_DIR"], "sandbox", key(dir)), a.RunDir())
	delete(env, "XDG_RUNTIME_DIR")
	require.Equal(t, a.RunDir(), openTest(t, h, dir).RunDir(), "without the variable")
	env["XDG_RUNTIME_DIR"] = t.TempDir()
	require.Equal(t, a.RunDir(), openTest(t, h, dir).RunDir(), "with another")
}

func TestRuntimeDirOfUser(t *testing.T) {
	h, env := userHost(t)
	dir := filepath.Join(h.temp, "store")
	open := func() string {
		s, err := h.open(dir)
		require.NoError(t, err)
		_, err = s.Create(Record{Name: "x"})
		require.NoError(t, err)
		require.NoError(t, s.Recover(t.Context(), nothing)) // a living one's stays
		require.NoError(t, os.Remove(s.recordPath("x")))
		s.live.Add(-1)
		require.NoError(t, s.Close())
		return s.RunDir()
	}
	gone := filepath.Join(h.temp, "session")
	require.NoError(t, os.Mkdir(gone, 0o700))
	env["XDG_RUNTIME_DIR"] = gone
	require.Equal(t, filepath.Join(gone, "sandbox", key(dir)), open())
	require.NoError(t, os.RemoveAll(gone)) // logged out
	users := filepath.Join(h.users, uidText(h))
	require.NoError(t, os.MkdirAll(users, 0o700))
	require.Equal(t, filepath.Join(users, "sandbox", key(dir)), open())
	require.NoError(t, os.RemoveAll(users))
	shm, err := os.MkdirTemp("/dev/shm", "store")
	require.NoError(t, err)
	h.shm = shm
	require.Equal(t, filepath.Join(shm, "sandbox-"+uidText(h), "sandbox", key(dir)), open())
	require.NoError(t, os.RemoveAll(shm))
	require.Equal(t, filepath.Join(dir, "run"), open())
	require.NoDirExists(t, filepath.Join(dir, "run"), "closed")
}

// Where /run is on disk, root's records are in /dev/shm, and never in another's directory there.
func TestRuntimeDirOfRoot(t *testing.T) {
	require.Zero(t, os.Geteuid(), "run the test as root")
	h := testHost(t, "")
	shm := testHost(t, "/dev/shm")
	if onTmpfs(h.temp) {
		require.Equal(t, h.run, filepath.Dir(openTest(t, h, filepath.Join(h.temp, "store")).RunDir()))
		h.run = "/x/run/sandbox" // no file system at all
	}
	require.Equal(t, shm.run, filepath.Dir(openTest(t, shm, filepath.Join(h.temp, "store")).RunDir()))
	h.shm = shm.temp
	s := openTest(t, h, filepath.Join(h.temp, "store"))
	require.Equal(t, h.shmDir(), filepath.Dir(s.RunDir()))
	b, err := s.Block(t.Context())
	require.NoError(t, err)
	require.FileExists(t, s.ownerPath)
	_, err = os.Lstat(filepath.Join(h.shmDir(), "ids", filepath.Base(s.claimPath(b.Base()/BlockSize))))
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.Empty(t, files(t, h.shmDir()))
	require.NoError(t, os.Chown(h.shmDir(), nobody, nobody))
	_, err = h.open(filepath.Join(h.temp, "store"))
	require.ErrorIs(t, err, errOwner)
	require.ErrorContains(t, err, "remove it")
}
