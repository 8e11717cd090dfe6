//go:build linux

package sandbox_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/cgroup"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// Wall: of the command, of the Options as a default, and the command's own before it.
func TestWall(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		st := store(t)
		for name, tt := range map[string]struct {
			own, byDefault time.Duration
			scope          sandbox.Scope
		}{
			"own":     {50 * time.Millisecond, 0, sandbox.ScopeCmd},
			"default": {0, 50 * time.Millisecond, sandbox.ScopeSandbox},
			"tighter": {50 * time.Millisecond, time.Hour, sandbox.ScopeCmd},
		} {
			sb := box(t, sandbox.Options{Store: st, Limits: sandbox.Limits{Wall: tt.byDefault}})
			c := sh("sleep 100 & sleep 100")
			c.Limits.Wall = tt.own
			res, err := sb.Run(t.Context(), c)
			require.NoError(t, err, name)
			require.Equal(t, sandbox.WallLimit, res.Status, name)
			require.Equal(t, []sandbox.Hit{{Status: sandbox.WallLimit, Scope: tt.scope}}, res.Hit, name)
			require.GreaterOrEqual(t, res.Usage.Wall, 50*time.Millisecond)
			require.Equal(t, sandbox.FromClock, res.Usage.WallSource)
			require.Error(t, res.Err())
		}
		c := sh("exit 3")
		c.Limits.Wall = time.Hour
		res, err := box(t, sandbox.Options{Store: st}).Run(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, "exit status 3", res.String())
		require.Empty(t, res.Hit)
	})
}

// Output: the Writers get exactly as many bytes, over both streams, a file too.
func TestOutputLimit(t *testing.T) {
	withDies(t, func(t *testing.T) {
		leaks(t)
		st := store(t)
		sb := box(t, sandbox.Options{Store: st, Rootfs: diesRoot(t)})
		hit := []sandbox.Hit{{Status: sandbox.OutputLimit, Scope: sandbox.ScopeCmd}}
		var out counter
		c := die("flood")
		c.Stdout, c.Limits.Output = &out, 100_001
		res, err := sb.Run(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, sandbox.OutputLimit, res.Status)
		require.Equal(t, hit, res.Hit)
		require.EqualValues(t, 100_001, out.n.Load())

		file, err := os.Create(filepath.Join(t.TempDir(), "out"))
		require.NoError(t, err)
		defer file.Close()
		c.Stdout = file
		res, err = sb.Run(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, sandbox.OutputLimit, res.Status)
		info, err := file.Stat()
		require.NoError(t, err)
		require.EqualValues(t, 100_001, info.Size())

		// Over two streams, and as the default of the Options.
		host := box(t, sandbox.Options{Store: st, Limits: sandbox.Limits{Output: 50_000}})
		var a, b counter
		c = sh("yes >&2 & yes; wait")
		c.Stdout, c.Stderr = &a, &b
		res, err = host.Run(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, sandbox.OutputLimit, res.Status)
		require.Equal(t, []sandbox.Hit{{Status: sandbox.OutputLimit, Scope: sandbox.ScopeSandbox}}, res.Hit)
		require.EqualValues(t, 50_000, a.n.Load()+b.n.Load())

		// More is noticed even when the command has ended before the Writer took it: an exit by itself, and a hit.
		late := sh("head -c 600 /dev/zero; sleep 0.05; head -c 600 /dev/zero")
		w := &slow{delay: 2 * time.Second}
		late.Stdout, late.Limits.Output = w, 1000
		res, err = host.Run(t.Context(), late)
		require.NoError(t, err)
		require.Equal(t, "exit status 0", res.String())
		require.Equal(t, hit, res.Hit)
		require.EqualValues(t, 1000, w.n.Load())

		// Exactly the limit is within it.
		for n, want := range map[int][]sandbox.Hit{1000: nil, 1001: hit} {
			var buf bytes.Buffer
			c := sh(fmt.Sprintf("head -c %d /dev/zero", n))
			c.Stdout, c.Limits.Output = &buf, 1000
			res, err := host.Run(t.Context(), c)
			require.NoError(t, err)
			require.Equal(t, want, res.Hit, "%d bytes", n)
			require.Equal(t, 1000, buf.Len())
		}
	})
}

// slow is a Writer that takes its time.
type slow struct {
	counter
	delay time.Duration
}

func (s *slow) Write(b []byte) (int, error) {
	time.Sleep(s.delay)
	return s.counter.Write(b)
}

// A flood up to a limit: the embedder's memory does not grow with what the command can write.
func TestOutputLimitMemory(t *testing.T) {
	withDies(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{Rootfs: diesRoot(t)})
		require.NoError(t, sb.Prepare(t.Context()))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var out counter
		c := die("flood")
		c.Stdout, c.Limits = &out, sandbox.Limits{Output: 300 << 20, Wall: time.Minute}
		res, err := sb.Run(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, sandbox.OutputLimit, res.Status)
		runtime.ReadMemStats(&after)
		require.EqualValues(t, 300<<20, out.n.Load())
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20))
	})
}

// Resource limits of each process, as the command's own or the Options' default.
func TestRlimits(t *testing.T) {
	withDies(t, func(t *testing.T) {
		leaks(t)
		st, root := store(t), diesRoot(t)
		efbig, xfsz := fmt.Sprintf("exit status %d", unix.EFBIG), fmt.Sprintf("exit status %d", 128+int(unix.SIGXFSZ))
		for name, tt := range map[string]struct {
			limits sandbox.Limits
			cmd    *sandbox.Cmd
			want   string
			out    string
		}{
			"file size, PID 1":        {sandbox.Limits{FileSize: 10_000}, die("fill", "/f"), efbig, ""},
			"file size, its child":    {sandbox.Limits{FileSize: 10_000}, die("child", "fill", "/f"), xfsz, ""},
			"file size, within":       {sandbox.Limits{FileSize: 5 << 20}, die("fill", "/f"), "exit status 0", ""},
			"stack, too deep":         {sandbox.Limits{Stack: 1 << 20}, die("deep", "3000000"), "signal: segmentation fault", ""},
			"stack, within":           {sandbox.Limits{Stack: 4 << 20}, die("deep", "3000000"), "exit status 0", ""},
			"stack, default":          {sandbox.Limits{}, die("deep", "7000000"), "exit status 0", ""},
			"stack, default too deep": {sandbox.Limits{}, die("deep", "9000000"), "signal: segmentation fault", ""},
			"stack, unlimited":        {sandbox.Limits{Stack: sandbox.Unlimited}, die("deep", "100000000"), "exit status 0", ""},
			"open files":              {sandbox.Limits{OpenFiles: 4}, die("files"), "exit status 0", fmt.Sprintf("1 %d\n", unix.EMFILE)},
			"open files, default":     {sandbox.Limits{}, die("files"), "exit status 0", fmt.Sprintf("1021 %d\n", unix.EMFILE)},
		} {
			run := func(o, c sandbox.Limits, name string) {
				sb := sandbox.New(sandbox.Options{Store: st, Rootfs: root, Limits: o})
				defer sb.Close()
				for _, way := range bothWays(tt.cmd) {
					var out bytes.Buffer
					cmd, want := *way, tt.want
					cmd.Limits, cmd.Stdout = c, &out
					if want == efbig && cmd.Init {
						want = sandbox.FileSizeLimit.String()
					}
					res, err := sb.Run(t.Context(), &cmd)
					require.NoError(t, err, name)
					require.Equal(t, want, res.String(), name)
					require.Equal(t, tt.out, out.String(), name)
				}
			}
			run(sandbox.Limits{}, tt.limits, name)
			run(tt.limits, sandbox.Limits{}, name+", by default")
		}
	})
}

// Unlimited open files are what the embedder itself may have at most.
func TestUnlimitedOpenFiles(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		var own unix.Rlimit
		require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &own))
		sb := box(t, sandbox.Options{Limits: sandbox.Limits{OpenFiles: sandbox.Unlimited}})
		out, err := sb.Output(t.Context(), sh("ulimit -n"))
		require.NoError(t, err)
		require.Equal(t, strconv.FormatUint(own.Max, 10), strings.TrimSpace(string(out)))
		c := sh("ulimit -n")
		c.Limits.OpenFiles = int64(own.Max) + 1
		_, err = sb.Run(t.Context(), c)
		require.ErrorIs(t, err, errors.ErrUnsupported)
	})
}

// keepsPeak says whether the kernel keeps the peak of a group's memory (v1; v2 from Linux 5.19).
func keepsPeak(t *testing.T) bool {
	tree, err := cgroup.Open(cgroup.Options{Name: fmt.Sprintf("peak-%d", os.Getpid()), Controllers: cgroup.Memory})
	require.NoError(t, err)
	g, err := tree.New("g", cgroup.Limits{})
	require.NoError(t, err)
	u, err := g.Usage()
	require.NoError(t, err)
	require.NoError(t, tree.Close(t.Context()))
	return u.MemoryPeak.Measured
}

// A command that uses more memory than it may is killed, and the Result says whose limit it was.
func TestMemoryLimit(t *testing.T) {
	withDies(t, func(t *testing.T) {
		leaks(t)
		st, root := store(t), diesRoot(t)
		sb := box(t, sandbox.Options{Store: st, Rootfs: root})
		c := die("touch", strconv.Itoa(64<<20))
		c.Limits.Memory = 32 << 20
		if !needsCgroup(t, sb, c) {
			return
		}
		res, err := sb.Run(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, sandbox.MemoryLimit, res.Status)
		require.Equal(t, syscall.SIGKILL, res.Signal)
		require.Equal(t, []sandbox.Hit{{Status: sandbox.MemoryLimit, Scope: sandbox.ScopeCmd}}, res.Hit)
		peak := keepsPeak(t)
		require.Equal(t, peak, res.Usage.MemorySource == sandbox.FromCgroup)
		if peak {
			require.InDelta(t, 32<<20, res.Usage.MemoryPeak, 1<<20)
		}

		c.Limits.Memory = 128 << 20
		res = mustExit(t, sb, c)
		require.Empty(t, res.Hit)
		if peak {
			require.InDelta(t, 64<<20, res.Usage.MemoryPeak, 4<<20)
		}

		// A child of the command: the rest is ended, too, and the Status is that, whichever was first.
		c = die("child", "touch", strconv.Itoa(64<<20))
		c.Limits.Memory = 32 << 20
		res, err = sb.Run(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, sandbox.MemoryLimit, res.Status)
		require.Equal(t, 137, res.ExitCode)
		require.Equal(t, []sandbox.Hit{{Status: sandbox.MemoryLimit, Scope: sandbox.ScopeCmd}}, res.Hit)

		sum := box(t, sandbox.Options{Store: st, Rootfs: root, Limits: sandbox.Limits{Memory: 32 << 20}})
		res, err = sum.Run(t.Context(), die("touch", strconv.Itoa(64<<20)))
		require.NoError(t, err)
		require.Equal(t, sandbox.MemoryLimit, res.Status)
		require.Equal(t, []sandbox.Hit{{Status: sandbox.MemoryLimit, Scope: sandbox.ScopeSandbox}}, res.Hit)
	})
}

// The peak of memory is what a program has touched, its page tables and what the kernel charges ahead; a limit of a MiB more
// than that is enough, and one of a MiB less is not.
func TestMemoryAccuracy(t *testing.T) {
	withDies(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{Rootfs: diesRoot(t)})
		touch := func(n, limit int64) *sandbox.Result {
			c := die("touch", strconv.FormatInt(n, 10))
			c.Limits.Memory = limit
			res, err := sb.Run(t.Context(), c)
			require.NoError(t, err)
			return res
		}
		if !needsCgroup(t, sb, func() *sandbox.Cmd { c := die("touch", "0"); c.Limits.Memory = 1 << 30; return c }()) {
			return
		}
		if !keepsPeak(t) {
			return
		}
		touch(0, 1<<30) // reads the program from the disk
		none := touch(0, 1<<30).Usage.MemoryPeak
		require.Less(t, none, int64(2<<20))
		for _, n := range []int64{1, 16, 128} {
			tables := n << 20 / 512
			res := touch(n<<20, 1<<30)
			require.Equal(t, sandbox.Exited, res.Status)
			require.InDelta(t, none+n<<20+tables, res.Usage.MemoryPeak, 2<<20, "%d MiB", n)
			require.Equal(t, sandbox.Exited, touch(n<<20, none+(n+1)<<20+tables).Status, "a limit of %d MiB and one more", n)
			if n > 1 {
				require.Equal(t, sandbox.MemoryLimit, touch(n<<20, none+(n-1)<<20).Status, "a limit of %d MiB less one", n)
			}
		}
	})
}

// A limit that leaves no room for an exec is a verdict on the command, and nobody else is harmed.
func TestTinyMemoryLimit(t *testing.T) {
	withDies(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{Rootfs: diesRoot(t)})
		c := die("touch", strconv.Itoa(8<<20))
		c.Limits.Memory = 1 << 20
		if !needsCgroup(t, sb, c) {
			return
		}
		tooMuch := func(sb *sandbox.Sandbox, limit int64, whose sandbox.Scope) {
			for range 3 {
				res, err := sb.Run(t.Context(), c)
				require.NoError(t, err, "%d B", limit)
				require.Equal(t, sandbox.MemoryLimit, res.Status, "%d B", limit)
				require.Equal(t, []sandbox.Hit{{Status: sandbox.MemoryLimit, Scope: whose}}, res.Hit, "%d B", limit)
			}
		}
		for limit := int64(4 << 10); limit <= 1<<20; limit *= 2 {
			c.Limits.Memory = limit
			tooMuch(sb, limit, sandbox.ScopeCmd)
		}
		mustExit(t, sb, die("exit", "0"))
		c.Limits.Memory = 0
		for limit := int64(4 << 10); limit <= 1<<20; limit *= 4 {
			sum := box(t, sandbox.Options{Rootfs: diesRoot(t), Limits: sandbox.Limits{Memory: limit}})
			tooMuch(sum, limit, sandbox.ScopeSandbox)
			require.NoError(t, sum.Close())
		}
	})
}

// A fork over PIDs fails and is noted; nobody is killed.
func TestPIDsLimit(t *testing.T) {
	withDies(t, func(t *testing.T) {
		leaks(t)
		st, root := store(t), diesRoot(t)
		sb := box(t, sandbox.Options{Store: st, Rootfs: root})
		var out bytes.Buffer
		c := die("fork", "1000")
		c.Stdout, c.Limits.PIDs = &out, 10
		if !needsCgroup(t, sb, c) {
			return
		}
		want := fmt.Sprintf("9 %d\n", unix.EAGAIN)
		res := mustExit(t, sb, c)
		require.Equal(t, want, out.String())
		require.Equal(t, []sandbox.Hit{{Status: sandbox.PIDsLimit, Scope: sandbox.ScopeCmd}}, res.Hit)

		out.Reset()
		c.Limits.PIDs = 0
		res = mustExit(t, box(t, sandbox.Options{Store: st, Rootfs: root, Limits: sandbox.Limits{PIDs: 10}}), c)
		require.Equal(t, want, out.String())
		require.Equal(t, []sandbox.Hit{{Status: sandbox.PIDsLimit, Scope: sandbox.ScopeSandbox}}, res.Hit)

		c.Args[2], c.Limits.PIDs = "5", 10
		res = mustExit(t, sb, c)
		require.Empty(t, res.Hit)
	})
}

// A fork bomb is contained, and gone with its PID 1.
func TestForkBomb(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		c := sh("bomb() { bomb | bomb & bomb; }; bomb 2>/dev/null")
		c.Limits = sandbox.Limits{PIDs: 64, Wall: 2 * time.Second}
		if !needsCgroup(t, sb, c) {
			return
		}
		res, err := sb.Run(t.Context(), c)
		require.NoError(t, err)
		if len(res.Hit) == 1 { // a machine so slow that it did not get so far
			c.Limits.Wall = time.Minute
			res, err = sb.Run(t.Context(), c)
			require.NoError(t, err)
		}
		require.Contains(t, res.Hit, sandbox.Hit{Status: sandbox.PIDsLimit, Scope: sandbox.ScopeCmd})
	})
}

// CPUs slows a command down, and says so.
func TestCPUs(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		st := store(t)
		sb := box(t, sandbox.Options{Store: st})
		c := sh("while :; do :; done")
		c.Limits = sandbox.Limits{CPUs: 0.2, Wall: time.Second}
		if !needsCgroup(t, sb, c) {
			return
		}
		res, err := sb.Run(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, sandbox.WallLimit, res.Status)
		require.Contains(t, res.Hit, sandbox.Hit{Status: sandbox.CPUThrottled, Scope: sandbox.ScopeCmd})
		require.Less(t, res.Usage.User+res.Usage.System, 400*time.Millisecond)

		c.Limits.CPUs = 0
		res, err = box(t, sandbox.Options{Store: st, Limits: sandbox.Limits{CPUs: 0.2}}).Run(t.Context(), c)
		require.NoError(t, err)
		require.Contains(t, res.Hit, sandbox.Hit{Status: sandbox.CPUThrottled, Scope: sandbox.ScopeSandbox})
		require.Less(t, res.Usage.User+res.Usage.System, 400*time.Millisecond)
	})
}

// What an ordinary user can't have without a delegated cgroup is an error with the remedy, and nothing is made for it.
func TestLimitsUnsupported(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		if os.Geteuid() == 0 {
			return // has them: the tests above
		}
		leaks(t)
		st := store(t)
		for name, l := range map[string]sandbox.Limits{"memory": {Memory: 1 << 30}, "pids": {PIDs: 100}, "cpus": {CPUs: 1}} {
			c := sandbox.Command("true")
			c.Limits = l
			sb := box(t, sandbox.Options{Store: st})
			requireNoCgroup(t, sb, c)
			mustExit(t, sb, sandbox.Command("true"))
			requireNoCgroup(t, box(t, sandbox.Options{Store: st, Name: name, Limits: l}), sandbox.Command("true"))
			all, err := st.Sandboxes(t.Context())
			require.NoError(t, err)
			for _, s := range all {
				require.NotEqual(t, name, s.Name)
			}
		}
	})
}

// A lease that another command holds on a program makes its exec wait, in the kernel, for lease-break-time (45 s, fcntl(2)):
// Wall bounds that, too.
func TestWallBoundsTheStart(t *testing.T) {
	prog := testenv.C(t, `
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv) {
	if (argc < 2) return 0;
	signal(SIGIO, SIG_IGN);
	int fd = open(argv[1], O_RDONLY);
	if (fcntl(fd, F_SETLEASE, F_WRLCK) != 0) { perror("lease"); return 1; }
	puts("held");
	fflush(stdout);
	for (;;) pause();
}`)
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{Rootfs: rootWith(t, map[string]string{"prog": prog, "cp": "/bin/busybox"}), Security: unfiltered})
		mustExit(t, sb, sandbox.Command("/bin/cp", "/bin/prog", "/leased"))
		p, err := sb.Start(t.Context(), &sandbox.Cmd{Args: []string{"/bin/prog", "/leased"}, Pipes: sandbox.PipeStdout})
		require.NoError(t, err)
		defer p.Stdout.Close()
		_, err = p.Stdout.Read(make([]byte, 8))
		require.NoError(t, err)
		began := time.Now()
		_, err = sb.Run(t.Context(), &sandbox.Cmd{Args: []string{"/leased"}, Limits: sandbox.Limits{Wall: 100 * time.Millisecond}})
		require.ErrorContains(t, err, "longer than Limits.Wall")
		require.Less(t, time.Since(began), 20*time.Second)
	})
}
