//go:build linux

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func nothing(context.Context, Record) error { return nil }

func TestRecoverDead(t *testing.T) {
	h := testHost(t, "")
	dir := filepath.Join(h.temp, "store")
	s := openTest(t, h, dir)
	mine, err := s.Create(Record{Name: "mine"})
	require.NoError(t, err)
	defer mine.Remove()
	c := startChild(t, "hold", h.temp)
	owner, _, _ := strings.Cut(c.line(t), " ")

	alive, err := s.Alive(owner)
	require.NoError(t, err)
	require.True(t, alive)
	fail := func(context.Context, Record) error { t.Error("a living owner's record was cleaned"); return nil }
	require.NoError(t, s.Recover(t.Context(), fail))
	require.ErrorIs(t, s.RecoverName(t.Context(), "held", fail), fs.ErrExist)

	c.kill(t)
	alive, err = s.Alive(owner)
	require.NoError(t, err)
	require.False(t, alive)
	_, err = s.Create(Record{Name: "held"})
	require.ErrorIs(t, err, ErrDead)
	require.ErrorIs(t, err, fs.ErrExist)

	// A cleaner that fails or keeps leaves the record and its owner's file.
	broken := errors.New("broken")
	require.ErrorIs(t, s.Recover(t.Context(), func(context.Context, Record) error { return broken }), broken)
	require.NoError(t, s.Recover(t.Context(), func(context.Context, Record) error { return ErrKeep }))
	require.FileExists(t, filepath.Join(s.run, "owners", owner))
	list, err := s.List()
	require.NoError(t, err)
	require.Len(t, list, 2)

	var cleaned []Record
	note := func(_ context.Context, r Record) error { cleaned = append(cleaned, r); return nil }
	require.NoError(t, s.RecoverName(t.Context(), "held", note))
	require.NoError(t, s.RecoverName(t.Context(), "held", note))
	require.NoError(t, s.Recover(t.Context(), note))
	require.Len(t, cleaned, 1)
	require.Equal(t, list[0], cleaned[0])
	require.NoFileExists(t, filepath.Join(s.run, "owners", owner))
	e, err := s.Create(Record{Name: "held"})
	require.NoError(t, err)
	require.NoError(t, e.Remove())
}

// A handle that is closed with a sandbox left is as good as dead.
func TestRecoverAfterClose(t *testing.T) {
	h := testHost(t, "")
	dir := filepath.Join(h.temp, "store")
	s := openTest(t, h, dir)
	var claim string
	r := Record{Name: "left"}
	if h.root() {
		b, err := s.Block(t.Context())
		require.NoError(t, err)
		r.Block, claim = b.Base(), s.claimPath(b.Base()/BlockSize)
	}
	left, err := s.Create(r)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	if claim != "" {
		_, err = os.Lstat(claim)
		require.NoError(t, err, "the block of a sandbox that is left must not be had by another")
	}
	require.ErrorIs(t, left.Remove(), os.ErrClosed)
	s2 := openTest(t, h, dir)
	n := 0
	require.NoError(t, s2.Recover(t.Context(), func(context.Context, Record) error { n++; return nil }))
	require.Equal(t, 1, n)
	require.NoError(t, s2.Close())
	require.Len(t, files(t, h.temp), 2, "only the store and its version")
}

func TestRecoverLeavesWhatItDoesNotKnow(t *testing.T) {
	h := testHost(t, "")
	s := openTest(t, h, filepath.Join(h.temp, "store"))
	require.NoError(t, os.MkdirAll(s.recordPath("directory"), 0o700))
	dead := `,"owner":"aaaaaaaaaa"}`
	put := map[string]string{
		"empty": "", "half": `{"version":1,"name":"ha`, "text": "hello", "zero": `{"version":0,"name":"zero"` + dead,
		"newer": `{"version":2,"name":{"x":1}` + dead, "other": `{"version":1,"name":"x"` + dead,
		"owner": `{"version":1,"name":"owner","owner":"../../../x"}`, "big": strings.Repeat(" ", MaxRecord+1),
		"block": `{"version":1,"name":"block","block":7` + dead, ".odd": "",
	}
	for name, b := range put {
		require.NoError(t, os.WriteFile(s.recordPath(name), []byte(b), 0o600))
	}
	require.NoError(t, os.Symlink("/etc/passwd", s.recordPath("link")))
	require.NoError(t, syscall.Mkfifo(s.recordPath("fifo"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(s.run, "owners", "odd"), nil, 0o600))
	before := files(t, h.temp)
	require.NoError(t, os.WriteFile(s.recordPath("good"), []byte(`{"version":1,"name":"good"`+dead), 0o600))
	require.NoError(t, os.WriteFile(s.recordPath(".aaaaaaaaaa.7"), []byte(`{"ver`), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(s.run, "owners", "aaaaaaaaaa"), nil, 0o600))

	list, err := s.List()
	require.Len(t, list, 1)
	require.ErrorIs(t, err, ErrCorrupt)
	var cleaned []string
	err = s.Recover(t.Context(), func(_ context.Context, r Record) error { cleaned = append(cleaned, r.Name); return nil })
	require.Equal(t, []string{"good"}, cleaned)
	require.Equal(t, before, files(t, h.temp), "what is not known was harmed, or what is was left")
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorIs(t, err, ErrNewer)
	for name := range put {
		require.ErrorContains(t, err, s.recordPath(name))
	}
	for _, name := range []string{"directory", "link", "fifo"} {
		require.ErrorContains(t, err, s.recordPath(name))
		_, err := s.Lookup(name)
		require.ErrorIs(t, err, ErrCorrupt)
	}
	var e *Error
	require.ErrorAs(t, err, &e)
	_, err = s.Create(Record{Name: "half"})
	require.ErrorIs(t, err, fs.ErrExist)
	require.NotErrorIs(t, err, ErrDead)
	require.NoError(t, os.RemoveAll(s.recordPath("")))
	require.NoError(t, os.Remove(filepath.Join(s.run, "owners", "odd")))
}

// Two who look at a dead owner at once must not take each other for the owner.
func TestRecoverWhileAnotherLooks(t *testing.T) {
	h := testHost(t, "")
	dir := filepath.Join(h.temp, "store")
	s, other := openTest(t, h, dir), openTest(t, h, dir)
	_, err := s.Create(Record{Name: "left"})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	d, err := openLockable(s.ownerPath)
	require.NoError(t, err)
	defer d.close()
	ok, err := d.tryLock(shared) // as ownerAlive does
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, other.Recover(t.Context(), nothing))
	require.Empty(t, files(t, other.recordPath("")))
}

// An owner whose file is there but not locked yet must survive a Recover at that moment.
func TestRecoverWhileOwnersStart(t *testing.T) {
	h := testHost(t, "/dev/shm")
	dir := filepath.Join(h.temp, "store")
	s := openTest(t, h, dir)
	stop := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := s.Recover(context.Background(), func(_ context.Context, r Record) error {
				return fmt.Errorf("cleaned %q of a living owner", r.Name)
			}); err != nil {
				done <- err
				return
			}
		}
	}()
	for range 2000 {
		o, err := h.open(dir)
		require.NoError(t, err)
		require.FileExists(t, o.ownerPath)
		e, err := o.Create(Record{})
		require.NoError(t, err)
		require.NoError(t, e.Remove())
		require.NoError(t, o.Close())
	}
	close(stop)
	require.NoError(t, <-done)
}

// One cleans, the others wait, and give up waiting when their context ends.
func TestRecoverWaitsForAnother(t *testing.T) {
	h := testHost(t, "")
	s := openTest(t, h, filepath.Join(h.temp, "store"))
	c := startChild(t, "hold", h.temp)
	c.line(t)
	c.kill(t)
	cleaning, release := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		first <- s.Recover(context.Background(), func(context.Context, Record) error { close(cleaning); <-release; return nil })
	}()
	<-cleaning
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Recover(ctx, nothing), context.DeadlineExceeded)
	second := make(chan error, 1)
	go func() {
		second <- s.Recover(context.Background(), func(context.Context, Record) error { return errors.New("cleaned twice") })
	}()
	select {
	case err := <-second:
		t.Fatalf("did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	require.NoError(t, <-first)
	require.NoError(t, <-second)
}

func TestProgramsRaceOnNames(t *testing.T) {
	h := testHost(t, "/dev/shm")
	s := openTest(t, h, filepath.Join(h.temp, "store"))
	a, b := startChild(t, "names", h.temp), startChild(t, "names", h.temp)
	require.Equal(t, "ready", a.line(t))
	require.Equal(t, "ready", b.line(t))
	_ = a.gate.Close()
	_ = b.gate.Close()
	won := map[string]int{}
	for _, c := range []*child{a, b} {
		for l := c.line(t); l != "done"; l = c.line(t) {
			won[l]++
		}
	}
	a.kill(t)
	b.kill(t)
	require.Len(t, won, 500)
	for name, n := range won {
		require.Equal(t, 1, n, name)
	}
	cleaned := 0
	require.NoError(t, s.Recover(t.Context(), func(context.Context, Record) error { cleaned++; return nil }))
	require.Equal(t, 500, cleaned)
}

func TestProgramsRaceOnRecover(t *testing.T) {
	h := testHost(t, "/dev/shm")
	dir := filepath.Join(h.temp, "store")
	s := openTest(t, h, dir)
	for i := range 300 {
		_, err := s.Create(Record{Name: fmt.Sprint("r", i)})
		require.NoError(t, err)
	}
	var programs []*child
	for range 4 {
		c := startChild(t, "recover", h.temp)
		require.Equal(t, "ready", c.line(t))
		programs = append(programs, c)
	}
	require.NoError(t, s.Close()) // all 300 are dead now
	for _, c := range programs {
		_ = c.gate.Close()
	}
	for _, c := range programs {
		require.Equal(t, []string{"left 0"}, c.finish(t))
	}
	require.Len(t, files(t, h.temp), 2+300, "store, version and a mark for each")
}

// Killed at any instant, a program leaves nothing that Recover does not remove.
func TestKilledAnywhere(t *testing.T) {
	h := testHost(t, "/dev/shm")
	dir := filepath.Join(h.temp, "store")
	kills := 200
	if testing.Short() {
		kills = 20
	}
	dirty := 0
	for range kills {
		a, b := startChild(t, "churn", h.temp), startChild(t, "churn", h.temp)
		a.line(t)
		b.line(t)
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
		a.kill(t)
		s, err := h.open(dir) // recovered while the other one works on
		require.NoError(t, err)
		require.NoError(t, s.Recover(t.Context(), nothing))
		b.kill(t)
		if len(files(t, h.run)) > 5 {
			dirty++
		}
		require.NoError(t, s.Recover(t.Context(), nothing))
		require.NoError(t, s.Recover(t.Context(), nothing))
		require.NoError(t, s.Close())
		require.Equal(t, []string{dir, filepath.Join(dir, "version")}, files(t, h.temp))
	}
	require.NotZero(t, dirty, "no kill left anything: the test shows nothing")
	t.Logf("%d of %d kills left something to recover", dirty, kills)
}
