//go:build linux

package image

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	it "github.com/seed-5a9fb6e0/sandbox/internal/imagetest"
)

// paths are what the store has of a kind.
func paths(t testing.TB, s *Store, kind string) []string {
	found, err := filepath.Glob(s.path(kind, "*", "*"))
	require.NoError(t, err)
	return found
}

func prune(t testing.TB, s *Store) Pruned {
	p, err := s.Prune(t.Context())
	require.NoError(t, err)
	noTmp(t, s)
	return p
}

// What references share stays as long as one of them does; a moved tag leaves what it stood for.
func TestPrune(t *testing.T) {
	host := it.Registry(t)
	base := it.Layer(t, it.File("base", "12345", 0o644))
	it.Push(t, host+"/a", it.Image(t, base, it.Layer(t, it.File("a", "1", 0o644))))
	it.Push(t, host+"/b", it.Image(t, base, it.Layer(t, it.File("b", "22", 0o644))))
	s := newStore(t)
	for _, name := range []string{"/a", "/b"} {
		_, err := s.Pull(t.Context(), host+name, amd64)
		require.NoError(t, err)
	}
	require.Zero(t, prune(t, s))
	require.Len(t, paths(t, s, "layers"), 3)
	// A reference that was written after the first look.
	w, err := s.newWorkspace()
	require.NoError(t, err)
	var none Pruned
	require.NoError(t, s.pruneBatch(t.Context(), w, paths(t, s, "layers"), &none))
	require.Zero(t, none)
	require.NoError(t, w.close())

	require.NoError(t, s.Remove(t.Context(), host+"/a"))
	require.Equal(t, Pruned{Layers: 1, Bytes: 1, Blobs: 2}, prune(t, s))
	_, err = s.Image(t.Context(), host+"/b")
	require.NoError(t, err)

	it.Push(t, host+"/b", it.Image(t, base, it.Layer(t, it.File("new", "333", 0o644))))
	always := amd64
	always.Policy = PullAlways
	_, err = s.Pull(t.Context(), host+"/b", always)
	require.NoError(t, err)
	require.Equal(t, Pruned{Layers: 1, Bytes: 2, Blobs: 2}, prune(t, s))
	img, err := s.Image(t.Context(), host+"/b")
	require.NoError(t, err)
	require.FileExists(t, img.Layers[1].Dir+"/new")
	require.NoError(t, s.Remove(t.Context(), host+"/b"))
	require.Equal(t, Pruned{Layers: 2, Bytes: 8, Blobs: 2}, prune(t, s))
	require.Empty(t, append(paths(t, s, "layers"), paths(t, s, "blobs")...))
	left, err := filepath.Glob(s.path("locks", "layer-*"))
	require.NoError(t, err)
	require.Empty(t, left)

	_, err = s.Hold(t.Context(), img)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = s.Pull(t.Context(), host+"/b", amd64)
	require.NoError(t, err)
	release, err := s.Hold(t.Context(), img)
	require.NoError(t, err)
	release()
}

// helperHold holds an image until its input ends.
func helperHold(args []string) error {
	s, err := Open(args[0])
	if err != nil {
		return err
	}
	img, err := s.Image(context.Background(), args[1])
	if err != nil {
		return err
	}
	if _, err := s.Hold(context.Background(), img); err != nil {
		return err
	}
	fmt.Println("held")
	_, err = os.Stdin.Read(make([]byte, 1))
	return err
}

// What is held stays, whoever holds it, until the last has given it back or is dead.
func TestPruneHeld(t *testing.T) {
	host := it.Registry(t)
	it.Push(t, host+"/a", it.Image(t, it.Layer(t, it.File("a", "1", 0o644))))
	s := newStore(t)
	img, err := s.Pull(t.Context(), host+"/a", amd64)
	require.NoError(t, err)
	first, err := s.Hold(t.Context(), img)
	require.NoError(t, err)
	second, err := s.Hold(t.Context(), img)
	require.NoError(t, err)
	other := helper(t, 0, "hold", s.dir, host+"/a")
	in, err := other.StdinPipe()
	require.NoError(t, err)
	defer in.Close()
	out, err := other.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, other.Start())
	_, err = out.Read(make([]byte, 5))
	require.NoError(t, err)
	require.NoError(t, s.Remove(t.Context(), host+"/a"))

	require.Equal(t, Pruned{Blobs: 2}, prune(t, s))
	first()
	first()
	require.Zero(t, prune(t, s))
	second()
	require.Zero(t, prune(t, s), "another process holds it")
	require.FileExists(t, img.Layers[0].Dir+"/a")
	require.NoError(t, other.Process.Kill())
	_ = other.Wait()
	require.Equal(t, Pruned{Layers: 1, Bytes: 1}, prune(t, s))
	require.Empty(t, s.leases.m)
}

// A record that can't be read keeps everything.
func TestPruneUnreadable(t *testing.T) {
	host := it.Registry(t)
	it.Push(t, host+"/a", it.Image(t, it.Layer(t, it.File("a", "1", 0o644))))
	s := newStore(t)
	_, err := s.Pull(t.Context(), host+"/a", amd64)
	require.NoError(t, err)
	require.NoError(t, s.Remove(t.Context(), host+"/a"))
	bad := s.path("images", "bad.json")
	require.NoError(t, os.WriteFile(bad, []byte("{"), 0o600))
	_, err = s.Prune(t.Context())
	require.ErrorContains(t, err, bad)
	require.Len(t, paths(t, s, "layers"), 1)
	require.NoError(t, os.Remove(bad))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Prune(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 1, prune(t, s).Layers)
}

// helperPrune prunes until it is killed.
func helperPrune(args []string) error {
	s, err := Open(args[0])
	if err != nil {
		return err
	}
	for {
		if _, err := s.Prune(context.Background()); err != nil {
			return err
		}
	}
}

// helperUse pulls images, holds each, looks at all of its files, and removes its reference, until it is killed.
func helperUse(args []string) error {
	s, err := Open(args[0])
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		for _, ref := range args[1:] {
			if err := useOnce(s, ref, n%2 == 0); err != nil {
				return fmt.Errorf("%s: %w", ref, err)
			}
			fmt.Print("x")
		}
	}
}

func useOnce(s *Store, ref string, remove bool) error {
	ctx := context.Background()
	img, err := s.Pull(ctx, ref, amd64)
	if err != nil {
		return err
	}
	release, err := s.Hold(ctx, img)
	if err != nil {
		if strings.Contains(err.Error(), "any more") { // somebody removed the reference
			return nil
		}
		return err
	}
	defer release()
	if remove {
		_ = s.Remove(ctx, ref) // somebody else may have
	}
	for range 2 {
		for i, l := range img.Layers {
			list, err := os.ReadDir(l.Dir)
			if err != nil {
				return err
			}
			if len(list) != 30 {
				return fmt.Errorf("layer %d has %d files", i, len(list))
			}
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// Pulls, holds, removals and prunes by several processes, some of which are killed: nobody ever loses what he holds, and
// in the end there is nothing but what references lead to.
func TestPruneRace(t *testing.T) {
	host := it.Registry(t)
	layer := func(n int) (entries []it.Entry) {
		for i := range 30 {
			entries = append(entries, it.File(fmt.Sprintf("f%d-%d", n, i), "x", 0o644))
		}
		return entries
	}
	base := it.Layer(t, layer(0)...)
	var refs []string
	for n := range 3 {
		ref := fmt.Sprintf("%s/app%d", host, n)
		it.Push(t, ref, it.Image(t, base, it.Layer(t, layer(1+n)...)))
		refs = append(refs, ref)
	}
	s := newStore(t)
	for range 4 {
		var outs [4]bytes.Buffer
		var errs [5]bytes.Buffer
		var cmds []*exec.Cmd
		for i := range outs {
			cmd := helper(t, 0, "use", append([]string{s.dir}, refs...)...)
			cmd.Stdout, cmd.Stderr = &outs[i], &errs[i]
			cmds = append(cmds, cmd)
		}
		pruner := helper(t, 0, "prune", s.dir)
		pruner.Stderr = &errs[4]
		cmds = append(cmds, pruner)
		for _, cmd := range cmds {
			require.NoError(t, cmd.Start())
		}
		var ended sync.WaitGroup
		for i, cmd := range cmds {
			ended.Go(func() {
				time.Sleep(time.Second + time.Duration(i)*50*time.Millisecond)
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			})
		}
		ended.Wait()
		for i := range errs {
			require.Empty(t, errs[i].String())
		}
		for i := range outs {
			require.NotEmpty(t, outs[i].String())
		}
		for _, ref := range refs {
			_ = s.Remove(t.Context(), ref)
		}
		_, err := Open(s.dir) // which removes what the dead have left
		require.NoError(t, err)
		prune(t, s)
		require.Empty(t, append(paths(t, s, "layers"), paths(t, s, "blobs")...))
	}
}
