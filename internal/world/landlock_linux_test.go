package world

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// with runs a script in a World with descriptors from 3 on, and returns what it prints.
func with(t *testing.T, w *World, script string, files ...*os.File) string {
	t.Helper()
	r, out, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	p, err := w.Start(t.Context(), Command{Paths: []string{"/bin/sh"}, Args: []string{"sh", "-c", script}, Dir: "/",
		Env: []string{"PATH=/usr/bin:/bin"}, Files: append([]*os.File{nil, out, out}, files...)})
	require.NoError(t, err)
	require.NoError(t, out.Close())
	text, err := io.ReadAll(r)
	require.NoError(t, err)
	_, err = p.Wait(t.Context())
	require.NoError(t, err)
	require.NoError(t, p.Close())
	return string(text)
}

// Landlock alone keeps a command from changing and executing what is outside of its root, be it by a descriptor of a
// directory of the host's that got inside; what it was given on purpose it may open again.
func TestLandlock(t *testing.T) {
	require.True(t, features.landlock.supported(), "this kernel has no Landlock")
	ns, err := NewNamespaces(t.Context(), testMap(), true)
	require.NoError(t, err)
	w, err := Build(t.Context(), Spec{Namespaces: ns, Map: testMap(), Hostname: "box", Root: HostRoot{}})
	require.NoError(t, err)
	defer w.Close()

	dir := t.TempDir()
	for d := dir; len(d) > len(os.TempDir()); d = filepath.Dir(d) {
		require.NoError(t, os.Chmod(d, 0o777))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "script"), []byte("#!/bin/sh\necho ran\n"), 0o777))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o666))
	for _, name := range []string{"script", "file"} { // whatever the umask
		require.NoError(t, os.Chmod(filepath.Join(dir, name), 0o777))
	}
	leaked, err := os.Open(dir)
	require.NoError(t, err)
	defer leaked.Close()
	given, err := os.OpenFile(filepath.Join(dir, "file"), os.O_RDWR, 0)
	require.NoError(t, err)
	defer given.Close()
	try := func() []string {
		var got []string
		for _, attempt := range []string{
			"echo x >/proc/self/fd/3/new", "echo x >>/proc/self/fd/3/file", "mkdir /proc/self/fd/3/dir", "rm /proc/self/fd/3/script",
			"mv /proc/self/fd/3/file /proc/self/fd/3/other", "ln -s a /proc/self/fd/3/link", "mkfifo /proc/self/fd/3/fifo", "/proc/self/fd/3/script",
		} {
			got = append(got, with(t, w, "("+attempt+") >/dev/null 2>&1 && echo done || echo refused", leaked))
		}
		return got
	}
	got := try()
	for _, answer := range got {
		require.Equal(t, "refused\n", answer, "%q", got)
	}
	require.Equal(t, "ok\n", with(t, w, "echo x >>/proc/self/fd/3 && echo x >/proc/self/fd/3 && echo ok", given), "a file that was given")
	require.Equal(t, "ok\n", with(t, w, "echo a >/tmp/a && mkdir /run/b && mv /tmp/a /tmp/c && echo x >/dev/shm/d && echo x >/dev/null && echo y >/proc/self/comm && echo ok"))
	require.Equal(t, "ran\n", with(t, w, "cp /bin/sh /tmp/s && /tmp/s -c 'echo ran'"))

	features.landlock.force(true)
	defer features.landlock.force(false)
	got = try()
	for _, answer := range got[:7] { // the last has no program any more
		require.Equal(t, "done\n", answer, "the control: %q", got)
	}
}
