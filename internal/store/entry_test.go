//go:build linux

package store

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEntry(t *testing.T) {
	h := testHost(t, "")
	s := openTest(t, h, filepath.Join(h.temp, "store"))
	want := Record{Name: "web-1", Labels: map[string]string{"a": "b"}, Block: FirstID, Cgroup: "/c", Upper: "/u\"\n"}
	e, err := s.Create(want)
	require.NoError(t, err)
	want.Version, want.Owner, want.Created = Version, s.Owner(), e.Record().Created
	require.WithinDuration(t, time.Now(), want.Created, time.Minute)
	require.Equal(t, want, e.Record())

	got, err := s.Lookup("web-1")
	require.NoError(t, err)
	require.Equal(t, want, got)
	fi, err := os.Stat(s.recordPath("web-1"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), fi.Mode().Perm())

	require.NoError(t, e.Update(Record{Name: "other", Owner: "other", Cgroup: "/d"}))
	list, err := s.List()
	require.NoError(t, err)
	require.Equal(t, []Record{{Version: Version, Name: "web-1", Owner: s.Owner(), Created: want.Created, Cgroup: "/d"}}, list)

	_, err = s.Create(Record{Name: "web-1"})
	require.ErrorIs(t, err, fs.ErrExist)
	require.NotErrorIs(t, err, ErrDead)
	require.EqualError(t, err, `create sandbox "web-1": file already exists: the name is in use`)

	require.NoError(t, e.Remove())
	require.NoError(t, e.Remove())
	require.ErrorIs(t, e.Update(Record{}), os.ErrClosed)
	_, err = s.Lookup("web-1")
	require.ErrorIs(t, err, fs.ErrNotExist)
	list, err = s.List()
	require.NoError(t, err)
	require.Empty(t, list)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	_, err = s.Create(Record{})
	require.ErrorIs(t, err, os.ErrClosed)
	require.Equal(t, []string{filepath.Join(h.temp, "store"), filepath.Join(h.temp, "store", "version")}, files(t, h.temp))
}

func TestCreateInvalid(t *testing.T) {
	h := testHost(t, "")
	s := openTest(t, h, filepath.Join(h.temp, "store"))
	for name, r := range map[string]Record{
		"leading dot":   {Name: ".x"},
		"dash":          {Name: "-x"},
		"slash":         {Name: "a/b"},
		"dots":          {Name: ".."},
		"64 bytes":      {Name: strings.Repeat("a", 64)},
		"NUL":           {Name: "a\x00"},
		"not ASCII":     {Name: "aé"},
		"low byte only": {Name: "a\u0161"}, // byte(0x161) is 'a'
		"path":          {Upper: "/\xff"},
		"label":         {Labels: map[string]string{"\xff": ""}},
		"too large":     {Labels: map[string]string{"a": strings.Repeat("a", MaxRecord)}},
		"year":          {Created: time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Create(r)
			require.ErrorIs(t, err, fs.ErrInvalid)
		})
	}
	require.NoError(t, CheckName(strings.Repeat("a", 63)))
	require.NoError(t, CheckName("0a_.-Z"))
	require.NoError(t, CheckName(NewName()))
	require.Empty(t, files(t, filepath.Join(s.run, "live")))
}

func TestSub(t *testing.T) {
	h := testHost(t, "")
	s := openTest(t, h, filepath.Join(h.temp, "store"))
	for range 2 {
		dir, err := s.Sub(Blobs)
		require.NoError(t, err)
		require.DirExists(t, dir)
		require.Equal(t, filepath.Join(s.Dir(), "blobs"), dir)
	}
	_, err := s.Sub("../x")
	require.ErrorIs(t, err, fs.ErrInvalid)
}

// Readers must see a whole record at any moment, by either way of publishing it.
func TestReadersSeeWholeRecords(t *testing.T) {
	for name, publish := range map[string]func(string, string) error{"renameat2": renameNew, "link": linkNew} {
		t.Run(name, func(t *testing.T) {
			h := testHost(t, "/dev/shm")
			s := openTest(t, h, filepath.Join(h.temp, "store"))
			s.publish = publish
			var stop atomic.Bool
			var wg sync.WaitGroup
			defer wg.Wait()
			defer stop.Store(true)
			wg.Go(func() {
				for !stop.Load() {
					if _, err := s.List(); err != nil {
						t.Error(err)
						return
					}
				}
			})
			long := map[string]string{"a": strings.Repeat("a", 20000)}
			for range 1000 {
				e, err := s.Create(Record{Name: "a"})
				require.NoError(t, err)
				_, err = s.Create(Record{Name: "a"})
				require.ErrorIs(t, err, fs.ErrExist)
				require.NoError(t, e.Update(Record{Labels: long}))
				require.NoError(t, e.Update(Record{}))
				require.NoError(t, e.Remove())
			}
			require.Empty(t, files(t, filepath.Join(s.run, "live")))
		})
	}
}

func TestErrorsNamePathAndRemedy(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"disk":   {syscall.ENOSPC, "free space"},
		"quota":  {syscall.EDQUOT, "free space"},
		"rofs":   {syscall.EROFS, "writable"},
		"access": {syscall.EACCES, "belongs to this user"},
		"files":  {syscall.EMFILE, "RLIMIT_NOFILE"},
	} {
		t.Run(name, func(t *testing.T) {
			err := fail("open store", "/x", &fs.PathError{Op: "open", Path: "/x/y", Err: c.err})
			require.ErrorIs(t, err, c.err)
			require.ErrorContains(t, err, `open store "/x/y": `+c.err.Error()+"; ")
			require.ErrorContains(t, err, c.want)
		})
	}
}
