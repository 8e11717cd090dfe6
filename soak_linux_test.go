//go:build soak

package sandbox_test

import (
	"bytes"
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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

func TestSoakSessions(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		sessions(t, 1000, 10)
	})
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

//go:embed testdata/fuzz.c
var fuzzSource string

// Random system calls inside, for a while: the kernel warns of nothing, the embedder goes on, nothing is left.
func TestSoakSystemCalls(t *testing.T) {
	const seconds = 30
	program := testenv.C(t, fuzzSource)
	before := kernelFaults(t)
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		root := rootWith(t, map[string]string{"fuzz": program})
		for _, profile := range []string{"", "strict"} {
			sb := box(t, sandbox.Options{Rootfs: root, Security: sandbox.Security{Seccomp: profile}})
			limits := sandbox.Limits{Wall: 2 * seconds * time.Second, FileSize: 64 << 20, Output: 1 << 20}
			if os.Getuid() == 0 {
				limits.Memory, limits.PIDs = 256<<20, 64
			}
			for _, withInit := range []bool{false, true} {
				var out bytes.Buffer
				seed := strconv.FormatInt(time.Now().UnixNano(), 10)
				res, err := sb.Run(t.Context(), &sandbox.Cmd{
					Args: []string{"/bin/fuzz", strconv.Itoa(seconds), seed}, Init: withInit, Limits: limits, Stdout: &out,
				})
				require.NoError(t, err, "seed %s", seed)
				t.Logf("%q, init %t, seed %s: %s, %s", profile, withInit, seed, res.Status, out.String())
				mustExit(t, sb, sandbox.Command("/bin/fuzz", "0", "1")) // the sandbox still works
			}
		}
	})
	require.Equal(t, before, kernelFaults(t), "the kernel says: dmesg")
}

// kernelFaults counts what the kernel's messages have of faults. They are for root (kernel.dmesg_restrict), who counts for
// the part of an ordinary user as well.
func kernelFaults(t *testing.T) int {
	t.Helper()
	if os.Getuid() != 0 {
		return 0
	}
	out, err := exec.Command("dmesg").Output()
	require.NoError(t, err)
	return len(regexp.MustCompile(`(?m)WARNING:|BUG:|Oops|KASAN|UBSAN|RCU stall|refcount_t`).FindAll(out, -1))
}
