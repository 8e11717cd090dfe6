package sandbox_test

import (
	"bytes"
	_ "embed"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

//go:embed testdata/flood.c
var floodSource string

// While a hostile command keeps all that it can get of something, the embedder, as the machine's root, and another
// sandbox get their share of it, and commands start and end.
func TestFloods(t *testing.T) {
	testenv.Root(t)
	leaks(t)
	program := testenv.C(t, floodSource)
	st, root := store(t), rootWith(t, map[string]string{"flood": program, "true": "/bin/busybox"})
	limits := sandbox.Untrusted()
	limits.Wall, limits.CPUTime = time.Minute, time.Minute
	for what, share := range map[string]int{
		"pty": 100, "descriptor": 200, "inotify": 100, "timer": 1000, "signals": 1000, "queue": 5, "pipe": 20, "socket": 20, "epoll": 100,
		"lock": 200, "cached": 100,
	} {
		t.Run(what, func(t *testing.T) {
			hostile, other := box(t, sandbox.Options{Store: st, Rootfs: root}), box(t, sandbox.Options{Store: st, Rootfs: root})
			mustExit(t, other, sandbox.Command("/bin/true"))
			var out lockedBuffer
			const processes = 12
			p, err := hostile.Start(t.Context(), &sandbox.Cmd{Args: []string{"/bin/flood", what, strconv.Itoa(20 * share), strconv.Itoa(processes), "600"}, Limits: limits, Stdout: &out})
			require.NoError(t, err)
			full := func() bool {
				select {
				case <-p.Done(): // by its limit: it had no more
					return true
				default:
					return strings.Count(out.String(), "\n") >= processes
				}
			}
			require.Eventually(t, full, 90*time.Second, 10*time.Millisecond, "%s", &out)

			text, err := exec.Command(program, what, strconv.Itoa(share), "1", "0").Output()
			require.NoError(t, err)
			require.Equal(t, share, got(t, string(text)), "the machine's root, while inside: %s", &out)
			text, err = other.Output(t.Context(), &sandbox.Cmd{Args: []string{"/bin/flood", what, strconv.Itoa(share), "1", "0"}, Limits: limits})
			require.NoError(t, err)
			require.Equal(t, share, got(t, string(text)), "another sandbox, while inside: %s", &out)
			for range 20 {
				mustExit(t, other, sandbox.Command("/bin/true"))
			}
			_ = p.Kill() // it may have ended by its limit
			res, err := p.Wait(t.Context())
			require.NoError(t, err)
			t.Logf("%s, peak %d MiB; inside: %s", res.Status, res.Usage.MemoryPeak>>20, strings.ReplaceAll(out.String(), "\n", "; "))
		})
	}
}

// got is how much a flood of one process had.
func got(t *testing.T, text string) int {
	t.Helper()
	number, _, _ := strings.Cut(text, " ")
	n, err := strconv.Atoi(number)
	require.NoError(t, err, "%q", text)
	return n
}

// A lockedBuffer may be read while a command writes to it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// The same of a user, whose sandboxes and own programs share what is counted for each user: it leaves him some.
func TestFloodsOfUser(t *testing.T) {
	program := testenv.C(t, floodSource)
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{Rootfs: rootWith(t, map[string]string{"flood": program})})
		for what, share := range map[string]int{"inotify": 32, "timer": 1000, "signals": 1000, "pty": 100} {
			var out lockedBuffer
			p, err := sb.Start(t.Context(), &sandbox.Cmd{Args: []string{"/bin/flood", what, "20000", "4", "600"}, Stdout: &out})
			require.NoError(t, err)
			require.Eventually(t, func() bool { return strings.Count(out.String(), "\n") >= 4 }, 50*time.Second, 10*time.Millisecond, "%s", &out)
			text, err := exec.Command(program, what, strconv.Itoa(share), "1", "0").Output()
			require.NoError(t, err)
			require.Equal(t, share, got(t, string(text)), "%s outside, while inside: %s", what, &out)
			require.NoError(t, p.Kill())
			_, err = p.Wait(t.Context())
			require.NoError(t, err)
		}
	})
}
