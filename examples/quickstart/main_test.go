//go:build linux

package main

import (
	"bytes"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/imagetest"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// both runs f as root and as an ordinary user, with the built program.
func both(t *testing.T, f func(t *testing.T, exe string)) {
	exe := testenv.Go(t, ".")
	testenv.RootAndUser(t, func(t *testing.T) {
		testenv.Leaks(t)
		f(t, exe)
	})
}

// quickstart is the program with arguments. It uses the default store: root's
// is replaced by an empty one of this process, the user's is in his own home.
func quickstart(t *testing.T, exe string, args ...string) *exec.Cmd {
	if os.Getuid() != 0 {
		return exec.CommandContext(t.Context(), exe, args...)
	}
	const script = `mount -t tmpfs store /var/lib && mount -t tmpfs store /run && exec "$@"`
	return exec.CommandContext(t.Context(), "unshare", append([]string{"--mount", "sh", "-c", script, "sh", exe}, args...)...)
}

// outcome runs cmd to its end.
func outcome(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// Nothing prepared, no arguments: it is PID 1 with a hostname of its own.
func TestLook(t *testing.T) {
	both(t, func(t *testing.T, exe string) {
		out, errs, code := outcome(t, quickstart(t, exe))
		require.Zero(t, code, errs)
		require.Empty(t, errs)
		require.Regexp(t, `(?m)^  PID 1 +sh; the pid of this shell is 1$`, out)
		require.Regexp(t, `(?m)^  processes +1$`, out)
		require.Regexp(t, `(?m)^  network +lo$`, out)
		require.Regexp(t, `(?m)^  user +uid=0\(root\)`, out)
		require.Regexp(t, `(?m)^  mounts +/ tmpfs ro$`, out)
		require.Regexp(t, `(?m)^  status +exit status 0$`, out)
		own, err := os.Hostname()
		require.NoError(t, err)
		inside := regexp.MustCompile(`(?m)^  hostname +(\S+)$`).FindStringSubmatch(out)
		require.Len(t, inside, 2, out)
		require.NotEqual(t, own, inside[1])
	})
}

// The streams are the command's own, and so is the exit code.
func TestCommand(t *testing.T) {
	both(t, func(t *testing.T, exe string) {
		cmd := quickstart(t, exe, "--", "sh", "-c", `cat; echo "$1" >&2; exit 7`, "sh", "-x")
		cmd.Stdin = strings.NewReader("from stdin")
		out, errs, code := outcome(t, cmd)
		require.Equal(t, "from stdin", out)
		require.Regexp(t, `\A-x\nquickstart: exit status 7 after \S+\n\z`, errs)
		require.Equal(t, 7, code)
	})
}

func TestImage(t *testing.T) {
	both(t, func(t *testing.T, exe string) {
		ref := imagetest.Registry(t) + "/busybox:1"
		imagetest.Push(t, ref, imagetest.Busybox(t))
		out, errs, code := outcome(t, quickstart(t, exe, "-image", ref, "--", "ps"))
		require.Zero(t, code, errs)
		require.Regexp(t, `(?m)^ +1 root .*ps$`, out)
		require.Regexp(t, `\Aquickstart: exit status 0 after \S+\n\z`, errs, "a progress bar without a terminal")

		cmd := quickstart(t, exe, "-image", ref) // the image's own command, sh
		cmd.Stdin = strings.NewReader("echo $$ ; exit 3")
		out, errs, code = outcome(t, cmd)
		require.Equal(t, "1\n", out)
		require.Equal(t, 3, code, errs)
	})
}

func TestProgressBar(t *testing.T) {
	both(t, func(t *testing.T, exe string) {
		ref := imagetest.Registry(t) + "/busybox:1"
		imagetest.Push(t, ref, imagetest.Busybox(t))
		ours, terminal := openTerminal(t)
		cmd := quickstart(t, exe, "-image", ref, "--", "true")
		cmd.Stderr = terminal
		require.NoError(t, cmd.Run())
		terminal.Close()
		screen, _ := io.ReadAll(ours) // EIO: the terminal has no user any more (ptmx is pty(7)'s)
		require.Regexp(t, `\[={30}\] \d+\.\d of \d+\.\d MiB, \d of 1 layers\x1b\[K\r`, string(screen))
		require.Regexp(t, `\x1b\[Kquickstart: exit status 0 after \S+\r\n\z`, string(screen))
	})
}

// openTerminal makes a pseudo-terminal (pty(7)) that ends with the test.
func openTerminal(t *testing.T) (ours, terminal *os.File) {
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { ours.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	terminal, err = os.OpenFile(filepath.Join("/dev/pts", strconv.Itoa(n)), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	return ours, terminal
}

func TestLimits(t *testing.T) {
	both(t, func(t *testing.T, exe string) {
		_, errs, code := outcome(t, quickstart(t, exe, "-wall", "100ms", "--", "sleep", "60"))
		require.Regexp(t, `quickstart: wall limit after \S+, hit the command's wall limit\n\z`, errs)
		require.Equal(t, 128+int(syscall.SIGKILL), code)
	})
}

func TestCgroupLimits(t *testing.T) {
	testenv.Root(t)
	testenv.Leaks(t)
	exe := testenv.Go(t, ".")
	for _, c := range []struct{ flag, value, command, want string }{
		{"-memory", "32MiB", "head -c 100m /dev/zero | tail", "hit the command's memory limit"},
		{"-pids", "3", "sleep 1 & sleep 1 & sleep 1 & wait", "hit the command's pids limit"},
		{"-cpus", "0.1", "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done", "hit the command's cpu throttled"},
	} {
		t.Run(c.flag, func(t *testing.T) {
			_, errs, _ := outcome(t, quickstart(t, exe, c.flag, c.value, "--", "sh", "-c", c.command))
			require.Contains(t, errs, c.want)
		})
	}
}

// Ctrl-C ends the command, and quickstart says so.
func TestInterrupt(t *testing.T) {
	both(t, func(t *testing.T, exe string) {
		cmd := quickstart(t, exe, "--", "sh", "-c", "echo ready; sleep 60")
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		_, err = io.ReadFull(out, make([]byte, len("ready\n")))
		require.NoError(t, err)
		require.NoError(t, cmd.Process.Signal(os.Interrupt))
		require.Error(t, cmd.Wait())
		require.Equal(t, 128+int(syscall.SIGKILL), cmd.ProcessState.ExitCode())
		require.Contains(t, errs.String(), "quickstart: canceled")
		require.Contains(t, errs.String(), "interrupt")
	})
}

func TestErrors(t *testing.T) {
	exe := testenv.Go(t, ".")
	for name, c := range map[string]struct {
		args []string
		want string
		code int
	}{
		"size":        {[]string{"-memory", "64MB"}, `invalid value "64MB" for flag -memory: not a size like 512k, 64MiB or 1GiB`, 2},
		"number":      {[]string{"-pids", "many"}, `invalid value "many" for flag -pids`, 2},
		"unknown":     {[]string{"-disk", "1GiB"}, `flag provided but not defined: -disk`, 2},
		"all at once": {[]string{"-cpus", "-1", "-wall", "-1s"}, `Limits.Wall: -1s: negative`, exitError},
		"reference":   {[]string{"-image", "UPPER/!"}, `Options.Image: "UPPER/!"`, exitError},
		"no command":  {[]string{"--", "no-such-command"}, `not found`, exitError},
		"help":        {[]string{"-h"}, `-wall time`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			out, errs, code := outcome(t, quickstart(t, exe, c.args...))
			require.Contains(t, errs, c.want)
			require.Equal(t, c.code, code)
			require.Empty(t, out)
		})
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "4096": 4096, "512k": 512 << 10, "512K": 512 << 10, "1KiB": 1 << 10, "64MiB": 64 << 20, "64m": 64 << 20,
		"1GiB": 1 << 30, "2g": 2 << 30, "8589934591GiB": math.MaxInt64 >> 30 << 30,
	} {
		got, err := parseSize(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "MiB", "-1", "+1", "1.5GiB", "64MB", "64 MiB", "64iB", "1kM", "0x10", "8589934592GiB", "9223372036854775808"} {
		_, err := parseSize(text)
		require.Error(t, err, text)
	}
}

func TestCheck(t *testing.T) {
	both(t, func(t *testing.T, exe string) {
		stdout, stderr, code := outcome(t, quickstart(t, exe, "-check"))
		require.Zero(t, code, stderr)
		require.True(t, strings.HasPrefix(stdout, "yes  Options\n"), stdout)
	})
}
