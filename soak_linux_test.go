//go:build soak

package sandbox_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

func TestSoakTwoProgramsOneStore(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) { twoPrograms(t, 30*time.Second) })
}

// The corpus twenty times while all processors are busy, two specimens at a time: no wrong verdict.
func TestSoakCorpus(t *testing.T) {
	leaks(t)
	st, root := store(t), rootWith(t, map[string]string{"h": testenv.C(t, hostileSource)})
	stress := exec.Command("stress-ng", "--cpu", strconv.Itoa(2), "--quiet")
	require.NoError(t, stress.Start(), "stress-ng is needed (bash scripts/deps stress-ng)")
	defer func() {
		require.NoError(t, stress.Process.Signal(os.Interrupt))
		_ = stress.Wait() // by the signal
	}()
	const repeats = 20
	wrong := 0
	for range repeats {
		var mu sync.Mutex
		work := make(chan specimen)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for s := range work {
					if err := runSpecimen(t, st, root, s); err != nil {
						mu.Lock()
						wrong++
						mu.Unlock()
						t.Error(err)
					}
				}
			})
		}
		for _, s := range corpus {
			work <- s
		}
		close(work)
		wg.Wait()
	}
	t.Logf("%d verdicts, %d wrong", repeats*len(corpus), wrong)
}

func runSpecimen(t *testing.T, st *sandbox.Store, root string, s specimen) error {
	var out counter
	res, err := sandbox.Run(t.Context(), sandbox.Options{Store: st, Rootfs: root}, s.cmd(&out))
	if err != nil {
		return err
	}
	return s.check(res, out.n.Load())
}

// Ten thousand commands with limits leave no cgroup.
func TestSoakRuns(t *testing.T) {
	leaks(t)
	st := store(t)
	sb := sandbox.New(sandbox.Options{Store: st})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 2500 {
				c := sandbox.Command("/bin/true")
				c.Limits = sandbox.Untrusted()
				if res, err := sb.Run(t.Context(), c); err != nil || res.Err() != nil {
					t.Error(res, err)
					return
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, sb.Close())
	left, err := filepath.Glob("/sys/fs/cgroup/*/sandbox.*")
	require.NoError(t, err)
	require.Empty(t, left)
}
