//go:build linux

package image

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	it "github.com/seed-5a9fb6e0/sandbox/internal/imagetest"
)

// helperPull pulls args[1:] into the store args[0], and writes an "x" for each layer that it unpacked itself.
func helperPull(args []string) error {
	s, err := Open(args[0])
	if err != nil {
		return err
	}
	for _, ref := range args[1:] {
		o := amd64
		o.Progress = countUnpacked(func(string) { fmt.Print("x") })
		if _, err := s.Pull(context.Background(), ref, o); err != nil {
			return err
		}
	}
	return nil
}

// wide is an image whose layers take a while: many files that don't compress.
func wide(t testing.TB) v1.Image {
	var layers []v1.Layer
	for i := range 3 {
		entries := []it.Entry{it.Dir("d/", 0o755), it.Whiteout("d/.wh.gone"), it.File("implied/"+string(rune('a'+i)), "", 0o644)}
		for j := range 150 {
			entries = append(entries, it.File("d/"+strings.Repeat("f", 1+j), noise(8<<10), 0o644))
		}
		layers = append(layers, it.Layer(t, entries...))
	}
	return it.Image(t, layers...)
}

// noise is n bytes that don't compress.
func noise(n int) string {
	b := make([]byte, n)
	for k := range b {
		b[k] = byte(rand.Uint32())
	}
	return string(b)
}

func TestTwoProcesses(t *testing.T) {
	host := it.Registry(t)
	ref := host + "/wide"
	it.Push(t, ref, wide(t))
	dir := t.TempDir()
	var cmds []*exec.Cmd
	var outs [2]bytes.Buffer
	for i := range outs {
		cmd := helper(t, 0, "pull", dir, ref)
		cmd.Stdout, cmd.Stderr = &outs[i], new(bytes.Buffer)
		require.NoError(t, cmd.Start())
		cmds = append(cmds, cmd)
	}
	for _, cmd := range cmds {
		require.NoError(t, cmd.Wait(), "%s", cmd.Stderr)
	}
	require.Equal(t, "xxx", outs[0].String()+outs[1].String(), "each layer once")
	s, err := Open(dir)
	require.NoError(t, err)
	layers, err := filepath.Glob(s.path("layers/*/*"))
	require.NoError(t, err)
	require.Len(t, layers, 3)
	noTmp(t, s)
	complete(t, s, ref)
}

// TestKilled kills a process at random instants of a pull, then lets another complete it.
func TestKilled(t *testing.T) {
	host := it.Registry(t)
	ref := host + "/wide"
	it.Push(t, ref, wide(t))
	full := time.Now()
	warm := helper(t, 0, "pull", t.TempDir(), ref)
	require.NoError(t, warm.Run())
	span := time.Since(full)
	killed := 0
	for range 12 {
		dir := t.TempDir()
		cmd := helper(t, 0, "pull", dir, ref)
		require.NoError(t, cmd.Start())
		time.Sleep(rand.N(span))
		require.NoError(t, cmd.Process.Kill())
		if cmd.Wait() != nil {
			killed++
		}
		s, err := Open(dir)
		require.NoError(t, err)
		noTmp(t, s)
		complete(t, s, ref)
	}
	require.Positive(t, killed)
}

// complete pulls, and checks every file of the image.
func complete(t *testing.T, s *Store, ref string) {
	t.Helper()
	img, err := s.Pull(t.Context(), ref, amd64)
	require.NoError(t, err)
	require.Len(t, img.Layers, 3)
	for _, l := range img.Layers {
		list, err := os.ReadDir(filepath.Join(l.Dir, "d"))
		require.NoError(t, err)
		require.Len(t, list, 150)
		for _, e := range list {
			info, err := e.Info()
			require.NoError(t, err)
			require.EqualValues(t, 8<<10, info.Size())
		}
	}
}

// TestSweepSparesTheLiving: Open removes what a dead process left, and nothing of one that lives.
func TestSweepSparesTheLiving(t *testing.T) {
	s := newStore(t)
	w, err := s.newWorkspace()
	require.NoError(t, err)
	dead := s.path("tmp", "dead")
	require.NoError(t, os.MkdirAll(dead+"/no-write", 0o700))
	require.NoError(t, os.WriteFile(dead+"/no-write/f", nil, 0o600))
	require.NoError(t, os.Chmod(dead+"/no-write", 0o500))
	_, err = Open(s.dir)
	require.NoError(t, err)
	require.NoDirExists(t, dead)
	require.DirExists(t, w.path)
	require.NoError(t, w.close())
	noTmp(t, s)
}

// TestBoot: a layer that was unpacked in another boot counts only if it is known to be on the disk.
func TestBoot(t *testing.T) {
	host := it.Registry(t)
	it.Push(t, host+"/app", it.Image(t, it.Layer(t, it.File("a", "1", 0o644))))
	s := newStore(t)
	img, err := s.Pull(t.Context(), host+"/app", amd64)
	require.NoError(t, err)
	layer := filepath.Dir(img.Layers[0].Dir)
	require.FileExists(t, layer+"/synced")
	s.boot = "another"
	_, err = s.Image(t.Context(), host+"/app")
	require.NoError(t, err)
	require.NoError(t, os.Remove(layer+"/synced"))
	_, err = s.Image(t.Context(), host+"/app")
	require.Error(t, err)
	require.NoError(t, os.WriteFile(layer+"/fs/a", nil, 0o644)) // as a crash leaves it
	img, err = s.Pull(t.Context(), host+"/app", amd64)
	require.NoError(t, err)
	data, err := os.ReadFile(img.Layers[0].Dir + "/a")
	require.NoError(t, err)
	require.Equal(t, "1", string(data))
}

// TestPullAsUser: an ordinary user has a store of his own.
func TestPullAsUser(t *testing.T) {
	host := it.Registry(t)
	it.Push(t, host+"/app", it.Image(t, it.Layer(t, append(everything(), it.Dir("closed/", 0), it.File("closed/x", "", 0))...), it.Layer(t, it.Whiteout("d/.wh.ro"), it.File("new/x", "", 0o644))))
	dir := openDir(t, 65534)
	for range 2 {
		cmd := helper(t, 65534, "pull", dir+"/store", host+"/app")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	s := &Store{dir: dir + "/store", boot: bootID()}
	noTmp(t, s)
	list, err := s.Images(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Len(t, list[0].Layers, 2)
	require.Contains(t, list[0].Layers[0].Omitted, "null: device")
	require.Equal(t, []string{"d/", "d/ro c0:0", "new/", "new/x="}, listing(t, list[0].Layers[1].Dir))
	st, err := os.Stat(dir + "/store")
	require.NoError(t, err)
	require.Equal(t, os.ModeDir|0o700, st.Mode())
}
