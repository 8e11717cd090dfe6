package sandbox_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	records "github.com/seed-5a9fb6e0/sandbox/internal/store"
)

// A storeDir is a store for several programs, with a rootfs beside it.
type storeDir struct{ dir, store, rootfs string }

func newStoreDir(t testing.TB) storeDir {
	dir := t.TempDir()
	require.NoError(t, os.Rename(skeleton(t), filepath.Join(dir, "rootfs")))
	return openStoreDir(dir)
}

func openStoreDir(dir string) storeDir {
	return storeDir{dir, filepath.Join(dir, "store"), filepath.Join(dir, "rootfs")}
}

// owners are the programs that records of the store name.
func (d storeDir) owners(t testing.TB) (names []string) {
	s, err := records.Open(d.store)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	all, err := s.List()
	require.NoError(t, err)
	for _, r := range all {
		names = append(names, r.Owner)
	}
	return names
}

// remains lists what is left of the store's sandboxes, and of these owners elsewhere.
func (d storeDir) remains(t testing.TB, owners []string) (left []string) {
	glob := func(pattern string) {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		left = append(left, found...)
	}
	glob(filepath.Join(d.store, "sandboxes", "*"))
	left = append(left, d.owners(t)...)
	for _, o := range owners {
		for _, pattern := range []string{"/sandbox*/" + o + "*", "/sandbox*" + o + "*"} {
			glob("/sys/fs/cgroup" + pattern)
			glob("/sys/fs/cgroup/*" + pattern)
		}
	}
	for _, ids := range []string{"/run/sandbox/ids/*", "/dev/shm/sandbox-0/ids/*"} {
		claims, err := filepath.Glob(ids)
		require.NoError(t, err)
		for _, c := range claims {
			to, _ := os.Readlink(c)
			for _, o := range owners {
				if filepath.Base(to) == o {
					left = append(left, c)
				}
			}
		}
	}
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	for line := range strings.Lines(string(mountinfo)) {
		if strings.Contains(line, d.dir) {
			left = append(left, line)
		}
	}
	return left
}

// living lists the processes that have mark as an argument, our own programs aside.
func living(t testing.TB, mark string) (found []string) {
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, name := range all {
		text, err := os.ReadFile(name)
		if err == nil && bytes.Contains(text, []byte(mark)) {
			found = append(found, fmt.Sprintf("%s: %q", name, text))
		}
	}
	return found
}

func newMark() string { return strconv.Itoa(1_000_000_000 + rand.IntN(1_000_000_000)) }

// lingering is a command with a child and a daemon; all have mark as an
// argument. It leaves directories that are closed to root, of a user's where there is one.
func lingering(mark string) *sandbox.Cmd {
	return sandbox.Command("sh", "-c", "mkdir -p /tmp/a/b/c && chmod 0 /tmp/a/b && chown -R 1000:1000 /tmp/a 2>/dev/null; (sleep "+mark+" &) ; sleep "+mark+" & echo up; exec sleep "+mark)
}

// playHold is an embedder with commands in two sandboxes, which does as it is told by lines.
func playHold(dir string) error {
	d, mark := openStoreDir(dir), os.Getenv(argEnv)
	st, err := sandbox.Open(d.store)
	if err != nil {
		return err
	}
	boxes := []*sandbox.Sandbox{
		sandbox.New(sandbox.Options{Store: st, Name: "held-host"}),
		sandbox.New(sandbox.Options{Store: st, Name: "held-rootfs", Rootfs: d.rootfs}),
	}
	ctx := context.Background()
	for _, sb := range boxes {
		c := lingering(mark)
		c.Pipes = sandbox.PipeStdout
		p, err := sb.Start(ctx, c)
		if err != nil {
			return err
		}
		if _, err := p.Stdout.Read(make([]byte, 3)); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "run":
			for _, sb := range boxes {
				if out, err := sb.Output(ctx, sandbox.Command("echo", "well")); err != nil || string(out) != "well\n" {
					return fmt.Errorf("%q: %w", out, err)
				}
			}
			fmt.Println("well")
		case "end":
			for _, sb := range boxes {
				err = errors.Join(err, sb.Close())
			}
			return errors.Join(err, st.Close())
		}
	}
	return nil
}

// A holder is an embedder that plays "hold".
type holder struct {
	*embedder
	in   *os.File
	mark string
}

func newHolder(t testing.TB, d storeDir) *holder {
	h := &holder{mark: newMark()}
	h.embedder = newEmbedder("hold", d.dir, h.mark)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	h.Stdin, h.in = r, w
	h.start(t)
	require.NoError(t, r.Close())
	t.Cleanup(func() { w.Close() })
	require.Equal(t, "ready", h.line(t))
	// In each sandbox PID 1, its child and its daemon.
	require.Eventually(t, func() bool { return len(living(t, h.mark)) == 6 }, 5*time.Second, time.Millisecond, "%v", living(t, h.mark))
	return h
}

func (h *holder) tell(t testing.TB, line string) {
	_, err := h.in.WriteString(line + "\n")
	require.NoError(t, err)
}

func TestEmbedderKilled(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		d := newStoreDir(t)
		h := newHolder(t, d)
		owners := d.owners(t)
		require.Len(t, owners, 2)
		h.kill()
		killed := time.Now()
		require.Eventually(t, func() bool { return len(living(t, h.mark)) == 0 }, time.Second, time.Millisecond, "%v", living(t, h.mark))
		t.Logf("its processes were gone after %v", time.Since(killed))
		require.NotEmpty(t, d.remains(t, owners), "the control: nothing is left to clean up")
		for range 2 {
			st, err := sandbox.Open(d.store)
			require.NoError(t, err)
			all, err := st.Sandboxes(t.Context())
			require.NoError(t, err)
			require.Empty(t, all)
			require.Empty(t, d.remains(t, owners))
			require.NoError(t, st.Close())
		}
	})
}

func TestLivingEmbedderIsLeftAlone(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		d := newStoreDir(t)
		h := newHolder(t, d)
		for range 2 {
			st, err := sandbox.Open(d.store)
			require.NoError(t, err)
			require.NoError(t, st.Recover(t.Context()))
			all, err := st.Sandboxes(t.Context())
			require.NoError(t, err)
			require.Len(t, all, 2)
			for _, i := range all {
				require.True(t, i.Alive, i.Name)
			}
			sb := sandbox.New(sandbox.Options{Store: st, Rootfs: d.rootfs})
			require.Equal(t, "mine", shell(t, sb, "echo mine"))
			require.NoError(t, sb.Close())
			require.NoError(t, st.Close())
			h.tell(t, "run")
			require.Equal(t, "well", h.line(t))
			require.Len(t, living(t, h.mark), 6)
		}
		h.tell(t, "end")
		h.end(t)
		require.Empty(t, living(t, h.mark))
		require.Empty(t, d.remains(t, nil))
	})
}

func TestNameOfAnotherProgram(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		d := newStoreDir(t)
		h := newHolder(t, d)
		owners := d.owners(t)
		st, err := sandbox.Open(d.store)
		require.NoError(t, err)
		for _, name := range []string{"held-host", "held-rootfs"} {
			sb := sandbox.New(sandbox.Options{Store: st, Name: name, Rootfs: d.rootfs})
			require.ErrorIs(t, sb.Prepare(t.Context()), fs.ErrExist)
			require.NoError(t, sb.Close())
		}
		h.tell(t, "run")
		require.Equal(t, "well", h.line(t))
		h.kill() // and nobody recovers
		for _, name := range []string{"held-host", "held-rootfs"} {
			sb := sandbox.New(sandbox.Options{Store: st, Name: name, Rootfs: d.rootfs})
			require.Equal(t, name, shell(t, sb, "hostname"))
			again := sandbox.New(sandbox.Options{Store: st, Name: name})
			require.ErrorIs(t, again.Prepare(t.Context()), fs.ErrExist)
			require.NoError(t, errors.Join(again.Close(), sb.Close()))
		}
		require.NoError(t, st.Recover(t.Context()))
		require.NoError(t, st.Close())
		require.Empty(t, d.remains(t, owners))
	})
}

// playChurn makes, runs and closes sandboxes for a time, "" until it is killed.
func playChurn(dir string) error {
	d := openStoreDir(dir)
	text, mark, _ := strings.Cut(os.Getenv(argEnv), " ")
	limit, err := time.ParseDuration(text)
	if err != nil {
		return err
	}
	st, err := sandbox.Open(d.store)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var group sync.WaitGroup
	results := make(chan error, 2)
	for i := range 2 {
		group.Go(func() {
			for n, end := 0, time.Now().Add(limit); time.Now().Before(end); n++ {
				if err := churnOnce(st, d, mark, i+n); err != nil {
					results <- err
					return
				}
			}
		})
	}
	group.Wait()
	close(results)
	for e := range results {
		err = errors.Join(err, e)
	}
	return errors.Join(err, st.Close())
}

func churnOnce(st *sandbox.Store, d storeDir, mark string, n int) error {
	o := sandbox.Options{Store: st, Labels: map[string]string{"n": strconv.Itoa(n)}}
	if n%2 == 0 {
		o.Rootfs = d.rootfs
	}
	if n%5 == 0 {
		o.Name = "fought-over"
	}
	res, err := sandbox.Run(context.Background(), o, sandbox.Command("sh", "-c", "sleep "+mark+" & echo >/tmp/x"))
	if o.Name != "" && errors.Is(err, fs.ErrExist) {
		return nil // the other one has it
	}
	if err == nil {
		err = res.Err()
	}
	return err
}

// Killed at any instant an embedder leaves nothing that the next Open doesn't clean up.
func TestEmbedderKilledAnywhere(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		d := newStoreDir(t)
		mark := newMark()
		owners := map[string]bool{}
		const kills, each = 100, 10 // as root and as a user
		dirty := 0
		for i := range kills {
			e := newEmbedder("churn", d.dir, "1h "+mark).start(t)
			if i%10 != 0 { // some while they open the store
				require.Equal(t, "ready", e.line(t))
			}
			time.Sleep(rand.N(40 * time.Millisecond))
			e.kill()
			for _, o := range d.owners(t) {
				owners[o] = true
			}
			if i%each < each-1 {
				continue // the next one recovers, or dies in the middle of that
			}
			require.Eventually(t, func() bool { return len(living(t, mark)) == 0 }, time.Second, time.Millisecond, "%v", living(t, mark))
			var names []string
			for o := range owners {
				names = append(names, o)
			}
			dirty += len(d.remains(t, names))
			d.cleanedUp(t, names)
		}
		require.NotZero(t, dirty, "the control: nothing was ever left to clean up")
		require.Greater(t, len(owners), kills/4)
	})
}

// Two programs on one store, a third that is killed now and then.
func TestTwoProgramsOneStore(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) { twoPrograms(t, 3*time.Second) })
}

func twoPrograms(t *testing.T, limit time.Duration) {
	leaks(t)
	d := newStoreDir(t)
	mark := newMark()
	a := newEmbedder("churn", d.dir, limit.String()+" "+mark).start(t)
	b := newEmbedder("churn", d.dir, limit.String()+" "+mark).start(t)
	for end := time.Now().Add(limit); time.Now().Before(end); {
		c := newEmbedder("churn", d.dir, "1h "+mark).start(t)
		require.Equal(t, "ready", c.line(t))
		time.Sleep(rand.N(100 * time.Millisecond))
		c.kill()
	}
	require.Equal(t, []string{"ready"}, a.end(t))
	require.Equal(t, []string{"ready"}, b.end(t))
	d.cleanedUp(t, nil)
	require.Eventually(t, func() bool { return len(living(t, mark)) == 0 }, time.Second, time.Millisecond)
}

// cleanedUp fails unless an Open cleans up within a second: the setup children of an embedder are killed with it, and hold
// what it had open until they have died.
func (d storeDir) cleanedUp(t *testing.T, owners []string) {
	t.Helper()
	left := []string{"never opened"}
	for end := time.Now().Add(time.Second); len(left) > 0 && time.Now().Before(end); {
		st, err := sandbox.Open(d.store)
		require.NoError(t, err)
		left = d.remains(t, owners)
		require.NoError(t, st.Close())
	}
	require.Empty(t, left)
}
