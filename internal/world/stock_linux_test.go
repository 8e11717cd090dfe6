//go:build linux

package world

import (
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Each command has a copy of the mount namespace in which nobody was before, made ahead or not, also when many start at
// once; what is made ahead and what was used is closed when nobody comes any more, and all of it by Close.
func TestMountNamespaces(t *testing.T) {
	ns, err := NewNamespaces(t.Context(), testMap(), false)
	require.NoError(t, err)
	before := mountNamespaces(t)
	w, err := Build(t.Context(), Spec{Namespaces: ns, Map: testMap(), Hostname: "box", Root: HostRoot{}})
	require.NoError(t, err)
	defer w.Close()
	run := func() {
		// A second command in the same would see a third.
		text := output(t, w, `grep -c " /proc proc " /proc/self/mounts; exec 3</dev/null`)
		require.Equal(t, "2\n", text, "the World's proc and the command's")
	}
	for range 10 {
		run()
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				run()
			}
		})
	}
	wg.Wait()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		w.mounts.mu.Lock()
		ready, ended, busy := len(w.mounts.ready), len(w.mounts.ended), w.mounts.busy
		w.mounts.mu.Unlock()
		if ready == 1 && ended == 0 && !busy {
			break
		}
		require.True(t, time.Now().Before(end), "idle, but %d are ready and %d not closed", ready, ended)
	}
	run()
	require.NoError(t, w.Close())
	require.NoError(t, w.Close())
	require.Equal(t, before, mountNamespaces(t))
}

// A command's own mounts are in nobody else's way, and the World's Close ends what is being made.
func TestCloseWhileMaking(t *testing.T) {
	for range 20 {
		ns, err := NewNamespaces(t.Context(), testMap(), false)
		require.NoError(t, err)
		w, err := Build(t.Context(), Spec{Namespaces: ns, Map: testMap(), Hostname: "box", Root: HostRoot{}})
		require.NoError(t, err)
		output(t, w, "true")
		output(t, w, "true") // the second has more made
		require.NoError(t, w.Close())
		require.Nil(t, w.NetNS())
		_, err = w.Start(t.Context(), Command{})
		require.ErrorIs(t, err, os.ErrClosed)
	}
}

// output runs a script in w and returns what it prints.
func output(t *testing.T, w *World, script string) string {
	r, out, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	p, err := w.Start(t.Context(), Command{Paths: []string{"/bin/sh"}, Args: []string{"sh", "-c", script}, Dir: "/",
		Env: []string{"PATH=/usr/bin:/bin"}, Files: []*os.File{nil, out, out}})
	require.NoError(t, err)
	require.NoError(t, out.Close())
	text, err := io.ReadAll(r)
	require.NoError(t, err)
	s, err := p.Wait(t.Context())
	require.NoError(t, err)
	require.NoError(t, p.Close())
	require.Equal(t, unix.WaitStatus(0), s.Status, "%s", text)
	return string(text)
}

// mountNamespaces are those that this process holds by descriptors.
func mountNamespaces(t *testing.T) (held []string) {
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, e := range entries {
		if to, _ := os.Readlink("/proc/self/fd/" + e.Name()); strings.HasPrefix(to, "mnt:") {
			held = append(held, to)
		}
	}
	return held
}
