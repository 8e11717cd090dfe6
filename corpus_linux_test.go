//go:build linux

package sandbox_test

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

//go:embed testdata/hostile.c
var hostileSource string

// A specimen is a hostile program with the verdict on it.
type specimen struct {
	how    string // what it does, see testdata/hostile.c
	n      int
	limits sandbox.Limits // over corpusLimits
	want   sandbox.Status
	code   int              // the exit code; anyCode: whichever
	hits   []sandbox.Status // the limits that are touched, all of scope Cmd
	also   []sandbox.Status // those that may be
	// Behind an init, where that differs.
	init     sandbox.Status
	initCode int
	behind   bool
}

const anyCode = -2

var killedCode = 128 + int(unix.SIGKILL)

// corpusLimits are those of all specimens that name no others.
var corpusLimits = sandbox.Limits{
	Memory: 64 << 20, PIDs: 16, CPUTime: 300 * time.Millisecond, Wall: time.Minute, Output: 1 << 20, FileSize: 256 << 20,
}

const mib = 1 << 20

// With throttling by nobody: CPUs is not set. A machine under load slows everything but changes no verdict; what needs a
// time to be told apart has CPUTime or Wall out of the way.
var corpus = func() []specimen {
	memory := []sandbox.Status{sandbox.MemoryLimit}
	pids := []sandbox.Status{sandbox.PIDsLimit}
	long := sandbox.Limits{CPUTime: 10 * time.Minute, Wall: 20 * time.Minute} // an emulated processor is slow
	with := func(l, o sandbox.Limits) sandbox.Limits {
		if o.Memory != 0 {
			l.Memory = o.Memory
		}
		if o.Stack != 0 {
			l.Stack = o.Stack
		}
		if o.FileSize != 0 {
			l.FileSize = o.FileSize
		}
		return l
	}
	wall := sandbox.Limits{Wall: time.Second, CPUTime: 10 * time.Minute}
	oom := func(how string, n int, l sandbox.Limits) specimen {
		return specimen{how: how, n: n, limits: with(long, l), want: sandbox.MemoryLimit, code: anyCode, hits: memory}
	}
	fine := func(how string, n int) specimen { return specimen{how: how, n: n, limits: long, want: sandbox.Exited} }
	all := []specimen{
		oom("anon", 128*mib, sandbox.Limits{}),
		oom("stack", 128*mib, sandbox.Limits{Stack: sandbox.Unlimited}),
		oom("heap", 128*mib, sandbox.Limits{}),
		oom("sysv", 128*mib, sandbox.Limits{}),
		oom("tmpfs", 128*mib, sandbox.Limits{}),
		oom("memfd", 128*mib, sandbox.Limits{}),
		oom("pipes", 30*mib, sandbox.Limits{Memory: 16 * mib}),
		oom("files", 100_000, sandbox.Limits{Memory: 32 * mib}),
		oom("dirs", 100_000, sandbox.Limits{Memory: 32 * mib}),
		oom("grandchild", 128*mib, sandbox.Limits{}),
		oom("exit", 0, sandbox.Limits{Memory: 64 << 10}),                              // not enough for its exec
		{how: "disk", n: 128 * mib, limits: long, want: sandbox.Exited, also: memory}, // page cache is given back
		fine("anon", 32*mib), fine("stack", 4*mib), fine("heap", 32*mib), fine("sysv", 32*mib), fine("tmpfs", 32*mib),
		fine("memfd", 32*mib), fine("files", 1000), fine("dirs", 1000),
		{how: "stack", n: 32 * mib, limits: long, want: sandbox.Signaled, code: 128 + int(unix.SIGSEGV)},

		{how: "fork", limits: wall, want: sandbox.WallLimit, code: killedCode, hits: []sandbox.Status{sandbox.PIDsLimit, sandbox.WallLimit}},
		{how: "vfork", limits: wall, want: sandbox.WallLimit, code: killedCode, hits: []sandbox.Status{sandbox.WallLimit}, also: pids},
		{how: "clone", limits: wall, want: sandbox.WallLimit, code: killedCode, hits: []sandbox.Status{sandbox.PIDsLimit, sandbox.WallLimit}},
		{how: "threads", limits: wall, want: sandbox.WallLimit, code: killedCode, hits: []sandbox.Status{sandbox.PIDsLimit, sandbox.WallLimit}},
		{how: "zombies", n: 100, limits: long, want: sandbox.Exited, hits: pids},
		{how: "eagain", n: 100, limits: long, want: sandbox.Exited, hits: pids}, // as a Java program that then ends well
		{how: "zombies", n: 10, limits: long, want: sandbox.Exited},

		{how: "spin", want: sandbox.CPULimit, code: killedCode, hits: []sandbox.Status{sandbox.CPULimit}},
		{how: "spin threads", n: 8, want: sandbox.CPULimit, code: killedCode, hits: []sandbox.Status{sandbox.CPULimit}},
		{how: "spin processes", n: 8, want: sandbox.CPULimit, code: killedCode, hits: []sandbox.Status{sandbox.CPULimit}},
		{how: "spin child", want: sandbox.CPULimit, code: killedCode, hits: []sandbox.Status{sandbox.CPULimit}},
		{how: "stubborn", want: sandbox.CPULimit, code: killedCode, hits: []sandbox.Status{sandbox.CPULimit}},
		{how: "wait", limits: wall, want: sandbox.WallLimit, code: killedCode, hits: []sandbox.Status{sandbox.WallLimit}},
		{how: "stop", limits: wall, want: sandbox.Exited, init: sandbox.WallLimit, initCode: killedCode},
		{how: "outlives", limits: long, want: sandbox.Exited},
		{how: "deaf", limits: long, want: sandbox.Exited},

		{how: "flood", limits: long, want: sandbox.OutputLimit, code: killedCode, hits: []sandbox.Status{sandbox.OutputLimit}},
		{how: "flood stderr", limits: long, want: sandbox.OutputLimit, code: killedCode, hits: []sandbox.Status{sandbox.OutputLimit}},
		{how: "flood both", limits: long, want: sandbox.OutputLimit, code: killedCode, hits: []sandbox.Status{sandbox.OutputLimit}},
		{how: "disk", n: 2 * mib, limits: with(long, sandbox.Limits{FileSize: mib}), want: sandbox.Exited, code: int(unix.EFBIG),
			init: sandbox.FileSizeLimit, initCode: 128 + int(unix.SIGXFSZ)},
		{how: "sparse", limits: long, want: sandbox.Exited, code: int(unix.EFBIG), init: sandbox.FileSizeLimit, initCode: 128 + int(unix.SIGXFSZ)},

		{how: "exit", n: 42, limits: long, want: sandbox.Exited, code: 42},
		{how: "abort", limits: long, want: sandbox.Signaled, code: 128 + int(unix.SIGSEGV), init: sandbox.Signaled, initCode: 128 + int(unix.SIGABRT)},
		{how: "suicide", limits: long, want: sandbox.Exited, init: sandbox.Signaled, initCode: killedCode},
	}
	for _, s := range all {
		all = append(all, s.behindInit())
	}
	return all
}()

func (s specimen) String() string {
	if s.behind {
		return fmt.Sprintf("%s %d behind init", s.how, s.n)
	}
	return fmt.Sprintf("%s %d", s.how, s.n)
}

// behindInit is the specimen with Cmd.Init.
func (s specimen) behindInit() specimen {
	s.behind = true
	if s.init != sandbox.Lost {
		s.want, s.code = s.init, s.initCode
		if s.init != sandbox.Signaled {
			s.hits = []sandbox.Status{s.init}
		}
	}
	return s
}

// cmd is the specimen to be run, with much on its standard input.
func (s specimen) cmd(out io.Writer) *sandbox.Cmd {
	l := corpusLimits
	for _, f := range []struct{ to, from *int64 }{
		{&l.Memory, &s.limits.Memory}, {&l.FileSize, &s.limits.FileSize}, {&l.Stack, &s.limits.Stack},
	} {
		if *f.from != 0 {
			*f.to = *f.from
		}
	}
	if s.limits.CPUTime != 0 {
		l.CPUTime = s.limits.CPUTime
	}
	if s.limits.Wall != 0 {
		l.Wall = s.limits.Wall
	}
	return &sandbox.Cmd{Args: []string{"/bin/h", s.how, strconv.Itoa(s.n)}, Limits: l, Init: s.behind,
		Stdin: bytes.NewReader(make([]byte, mib)), Stdout: out, Stderr: out, WaitDelay: 10 * time.Second}
}

// check says what is wrong with the verdict.
func (s specimen) check(res *sandbox.Result, out int64) error {
	hits := map[sandbox.Status]bool{}
	for _, h := range res.Hit {
		if h.Scope != sandbox.ScopeCmd {
			return fmt.Errorf("%v: hit %v of scope %v", s, h.Status, h.Scope)
		}
		hits[h.Status] = true
	}
	for _, h := range s.hits {
		if !hits[h] {
			return fmt.Errorf("%v: no hit %v, only %v", s, h, res.Hit)
		}
		delete(hits, h)
	}
	for _, h := range s.also {
		delete(hits, h)
	}
	switch {
	case res.Status != s.want || s.code != anyCode && res.ExitCode != s.code:
		return fmt.Errorf("%v: %v, exit code %d; want %v, %d (%+v)", s, res.Status, res.ExitCode, s.want, s.code, res.Usage)
	case len(hits) > 0:
		return fmt.Errorf("%v: hits %v, want %v", s, res.Hit, s.hits)
	case (s.want == sandbox.OutputLimit) != (out == corpusLimits.Output) || out > corpusLimits.Output:
		return fmt.Errorf("%v: %d bytes of output", s, out)
	case res.Usage.Output < out || res.Usage.CPUSource != sandbox.FromCgroup || res.Usage.MemorySource == sandbox.NotMeasured:
		return fmt.Errorf("%v: usage %+v", s, res.Usage)
	}
	return nil
}

// Every specimen gets the verdict that it deserves.
func TestCorpus(t *testing.T) {
	hostile := testenv.C(t, hostileSource)
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		st, root := store(t), rootWith(t, map[string]string{"h": hostile})
		probe := box(t, sandbox.Options{Store: st, Rootfs: root})
		if !needsCgroup(t, probe, corpus[0].cmd(nil)) {
			return
		}
		for _, s := range corpus {
			t.Run(s.String(), func(t *testing.T) {
				sb := sandbox.New(sandbox.Options{Store: st, Rootfs: root}) // its files go with it
				var out counter
				res, err := sb.Run(t.Context(), s.cmd(&out))
				require.NoError(t, err)
				require.NoError(t, s.check(res, out.n.Load()))
				require.Empty(t, inSandbox(t), "processes that are left")
				require.NoError(t, sb.Close())
			})
		}
	})
}

// inSandbox lists the processes that run the corpus' program.
func inSandbox(t *testing.T) (found []string) {
	all, err := os.ReadDir("/proc")
	require.NoError(t, err)
	for _, p := range all {
		if to, _ := os.Readlink("/proc/" + p.Name() + "/exe"); to == "/bin/h" {
			found = append(found, p.Name())
		}
	}
	return found
}

// What is more than Output is dropped and counted where that was asked for.
func TestDropOutput(t *testing.T) {
	withDies(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		var out, errs bytes.Buffer
		c := sh("head -c 3000000 /dev/zero; head -c 500 /dev/zero >&2; exit 5")
		c.Stdout, c.Stderr, c.DropOutput, c.Limits.Output = &out, &errs, true, 1_000_001
		res, err := sb.Run(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, "exit status 5", res.String())
		require.Equal(t, []sandbox.Hit{{Status: sandbox.OutputLimit, Scope: sandbox.ScopeCmd}}, res.Hit)
		require.Equal(t, 1_000_001, out.Len()+errs.Len())
		require.EqualValues(t, 3_000_500, res.Usage.Output)
		require.Equal(t, sandbox.FromPipe, res.Usage.OutputSource)
	})
}

// CPUTime is a command's own or the sandbox's default; what sleeps uses none.
func TestCPUTime(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		st := store(t)
		sb := box(t, sandbox.Options{Store: st, Limits: sandbox.Limits{CPUTime: 500 * time.Millisecond}})
		if !needsCgroup(t, sb, sh("true")) {
			return
		}
		res, err := sb.Run(t.Context(), sh("while :; do :; done"))
		require.NoError(t, err)
		require.Equal(t, sandbox.CPULimit, res.Status)
		require.Equal(t, syscall.SIGKILL, res.Signal)
		require.Equal(t, []sandbox.Hit{{Status: sandbox.CPULimit, Scope: sandbox.ScopeSandbox}}, res.Hit)
		require.Greater(t, res.Usage.User+res.Usage.System, 500*time.Millisecond)
		require.True(t, strings.Contains(res.Applied.Cgroup, "cpuacct"), res.Applied.Cgroup)

		c := sh("sleep 1; exit 3")
		res, err = sb.Run(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, "exit status 3", res.String())
		require.Empty(t, res.Hit)

		c = sh("i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); done; exit 4")
		c.Limits.CPUTime = time.Hour // its own goes before the default
		res, err = sb.Run(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, "exit status 4", res.String())
	})
}
