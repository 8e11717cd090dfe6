//go:build linux

package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// rootHost has count blocks, and files that name no other ids. Root is needed.
func rootHost(t *testing.T, count uint32) host {
	t.Helper()
	require.Zero(t, os.Geteuid(), "blocks of ids are root's: run the test as root")
	h := testHost(t, "/dev/shm")
	h.firstID, h.finalID, h.etc = FirstID, FirstID+count*BlockSize-1, t.TempDir()
	return h
}

func TestBlock(t *testing.T) {
	h := rootHost(t, 4)
	s := openTest(t, h, filepath.Join(h.temp, "store"))
	var all []*Block
	var bases []uint32
	for range 4 {
		b, err := s.Block(t.Context())
		require.NoError(t, err)
		require.True(t, validBlock(b.Base()))
		all, bases = append(all, b), append(bases, b.Base())
	}
	slices.Sort(bases)
	require.Equal(t, []uint32{FirstID, FirstID + BlockSize, FirstID + 2*BlockSize, FirstID + 3*BlockSize}, bases)
	_, err := s.Block(t.Context())
	require.ErrorIs(t, err, ErrExhausted)
	require.ErrorContains(t, err, "4 are taken")

	all[2].Release()
	all[2].Release()
	b, err := s.Block(t.Context())
	require.NoError(t, err)
	require.Equal(t, all[2].Base(), b.Base())
	all[2].Release() // of an old owner: must not free what b has now
	_, err = s.Block(t.Context())
	require.ErrorIs(t, err, ErrExhausted)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Block(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, s.Close())
	require.NoDirExists(t, s.ids)
}

func TestBlockAvoidsOthers(t *testing.T) {
	h := rootHost(t, 7)
	put := func(name string, lines ...string) {
		require.NoError(t, os.WriteFile(filepath.Join(h.etc, name), []byte(strings.Join(lines, "\n")), 0o644))
	}
	at := func(n, off int) int { return FirstID + n*BlockSize + off }
	put("subuid", fmt.Sprintf("u:%d:65536", at(1, -1))) // blocks 0 and 1
	put("subgid", "u:100000:65536", fmt.Sprintf("u:%d:1", at(3, 65535)))
	put("passwd", "root:x:0:0::/:/bin/sh", fmt.Sprintf("u:x:%d:1::/:/bin/sh", at(4, 0)))
	put("group", fmt.Sprintf("g:x:%d:", at(5, 9)))
	s := openTest(t, h, filepath.Join(h.temp, "store"))
	got := map[uint32]bool{}
	for range 2 {
		b, err := s.Block(t.Context())
		require.NoError(t, err)
		got[b.Base()] = true
	}
	require.Equal(t, map[uint32]bool{uint32(at(2, 0)): true, uint32(at(6, 0)): true}, got)
	_, err := s.Block(t.Context())
	require.ErrorIs(t, err, ErrExhausted)
	require.ErrorContains(t, err, "2 are taken by sandboxes, 5 overlap")
}

// A dead owner's blocks are free for another store at once, but not while a record says that a sandbox has one.
func TestBlockOfDeadOwner(t *testing.T) {
	h := rootHost(t, 2)
	c := newChild(t, "hold", h.temp)
	c.start(t)
	var owner string
	var base uint32
	_, err := fmt.Sscan(c.line(t), &owner, &base)
	require.NoError(t, err)
	mine := openTest(t, h, filepath.Join(h.temp, "store"))
	other := openTest(t, h, filepath.Join(h.temp, "other"))
	h.firstID, h.finalID = base, base+BlockSize-1 // the child took any: look at that one only
	mine.host, other.host = h, h

	for _, s := range []*Store{mine, other} {
		_, err = s.Block(t.Context())
		require.ErrorIs(t, err, ErrExhausted, "its owner lives")
	}
	c.kill(t)
	_, err = other.Block(t.Context())
	require.ErrorIs(t, err, ErrExhausted, "its record is there")
	require.NoError(t, mine.Recover(t.Context(), func(context.Context, Record) error { return ErrKeep }))
	_, err = other.Block(t.Context())
	require.ErrorIs(t, err, ErrExhausted, "its record was kept")
	require.NoError(t, os.Remove(mine.recordPath("held")))
	b, err := other.Block(t.Context())
	require.NoError(t, err)
	require.Equal(t, base, b.Base())

	// And a claim that we did not make is nobody's to remove.
	claim := other.claimPath(base / BlockSize)
	for _, to := range []string{"/run/something", "/elsewhere/key/owners/aaaaaaaaaa", filepath.Join(mine.run, "owners/..")} {
		require.NoError(t, os.Remove(claim))
		require.NoError(t, os.Symlink(to, claim))
		_, err = mine.Block(t.Context())
		require.ErrorIs(t, err, ErrExhausted, to)
		require.NoError(t, mine.Recover(t.Context(), nothing))
		_, err = os.Lstat(claim)
		require.NoError(t, err, to)
	}
	require.NoError(t, os.Remove(claim))
}

// Between the look at a dead owner's claim and its removal the block may get a new owner, who must keep it.
func TestDropLooksAgain(t *testing.T) {
	h := rootHost(t, 1)
	s, other := openTest(t, h, filepath.Join(h.temp, "store")), openTest(t, h, filepath.Join(h.temp, "other"))
	claim := s.claimPath(h.firstID / BlockSize)
	require.NoError(t, os.MkdirAll(s.ids, 0o700))
	require.NoError(t, os.Symlink(filepath.Join(other.run, "owners", "aaaaaaaaaa"), claim))
	lock, err := lockDir(t.Context(), s.ids)
	require.NoError(t, err)
	got := make(chan error, 1)
	go func() { _, err := s.Block(context.Background()); got <- err }()
	select {
	case err := <-got:
		t.Errorf("did not wait for the lock: %v", err)
	case <-time.After(30 * time.Millisecond):
	}
	require.NoError(t, os.Remove(claim))
	require.NoError(t, os.Symlink(other.ownerPath, claim))
	require.NoError(t, lock.close())
	require.ErrorIs(t, <-got, ErrExhausted)
	to, err := os.Readlink(claim)
	require.NoError(t, err)
	require.Equal(t, other.ownerPath, to)
	require.NoError(t, os.Remove(claim))
}

func TestProgramsRaceOnBlocks(t *testing.T) {
	h := rootHost(t, 100)
	// Half of the blocks are claimed by a dead one, so that the living race on dropping those too.
	dead := filepath.Join(h.run, "deaddeaddead2345", "owners", "aaaaaaaaaa")
	require.NoError(t, os.MkdirAll(filepath.Join(h.run, "ids"), 0o700))
	for n := range 50 {
		require.NoError(t, os.Symlink(dead, filepath.Join(h.run, "ids", fmt.Sprint(FirstID/BlockSize+2*n))))
	}
	var programs []*child
	for i := range 4 {
		c := newChild(t, "blocks", h.temp)
		c.Env = append(c.Env, fmt.Sprint("STORE_TEST_N=", i%2)) // two programs in each of two stores
		c.start(t)
		require.Equal(t, "ready", c.line(t))
		programs = append(programs, c)
	}
	for _, c := range programs {
		_ = c.gate.Close()
	}
	got := map[string]int{}
	for _, c := range programs {
		for l := c.line(t); l != "exhausted"; l = c.line(t) {
			got[l]++
		}
	}
	for base, n := range got {
		require.Equal(t, 1, n, "block %s", base)
	}
	// Blocks that other files of this machine's /etc name are missing; there are none on a plain one.
	avoid, err := readReserved("/etc")
	require.NoError(t, err)
	want := 0
	for n := range uint32(100) {
		if !avoid.meets(FirstID+n*BlockSize, BlockSize) {
			want++
		}
	}
	require.Len(t, got, want)
	for i, c := range programs {
		c.kill(t)
		if i < 2 {
			continue
		}
		s := openTest(t, h, filepath.Join(h.temp, fmt.Sprint("store", i%2)))
		require.NoError(t, s.Recover(t.Context(), nothing))
	}
}
