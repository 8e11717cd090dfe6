//go:build linux

package sandbox_test

import (
	"fmt"
	"io"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// The faults that PID 1 can die of are told as they were, those of its descendants are as it sees them. Behind an init
// a command is like any descendant.
func TestSignals(t *testing.T) {
	withDies(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{Rootfs: diesRoot(t)})
		for how, sig := range map[string]syscall.Signal{
			"segv": syscall.SIGSEGV, "ill": syscall.SIGILL, "trap": syscall.SIGTRAP, "bus": syscall.SIGBUS,
			"abort": syscall.SIGABRT, "fpe": syscall.SIGFPE,
		} {
			if how == "fpe" && runtime.GOARCH != "amd64" {
				continue // a division by zero is 0 there
			}
			for _, c := range bothWays(die(how)) {
				want := sig
				if how == "abort" && !c.Init {
					want = syscall.SIGSEGV // PID 1 ignores its own SIGABRT, and glibc then goes on to a fault
				}
				res, err := sb.Run(t.Context(), c)
				require.NoError(t, err, how)
				require.Equal(t, sandbox.Signaled, res.Status, how)
				require.Equal(t, want, res.Signal, how)
				require.Equal(t, 128+int(want), res.ExitCode, how)
				require.Equal(t, "signal: "+want.String(), res.String())
				require.Error(t, res.Err())
			}
			res, err := sb.Run(t.Context(), die("child", how, "0"))
			require.NoError(t, err, how)
			require.Equal(t, fmt.Sprintf("exit status %d", 128+int(sig)), res.String(), how)
		}
	})
}

// What PID 1 sends itself it ignores. Behind an init it is what signal(7) says.
func TestSignalsToItself(t *testing.T) {
	withDies(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{Rootfs: diesRoot(t)})
		for n := 1; n <= 64; n++ {
			sig := syscall.Signal(n)
			if n == 32 || n == 33 || stops(sig) {
				continue // 32 and 33 are glibc's own
			}
			for _, c := range bothWays(die("raise", strconv.Itoa(n))) {
				res, err := sb.Run(t.Context(), c)
				require.NoError(t, err)
				want := "signal: " + sig.String()
				switch {
				case sig == syscall.SIGCHLD || sig == syscall.SIGCONT || sig == syscall.SIGURG || sig == syscall.SIGWINCH:
					want = "exit status 0"
				case !c.Init && sig != syscall.SIGSEGV:
					want = "exit status 0"
				case !c.Init:
					continue // glibc's raise goes on to a fault, or not
				}
				require.Equal(t, want, res.String(), "signal %d, init %v", n, c.Init)
			}
		}
		// PID 1 does not stop, either; behind an init it does, for good.
		for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU} {
			for _, c := range bothWays(die("raise", strconv.Itoa(int(sig)))) {
				c.Limits.Wall = 100 * time.Millisecond
				want := sandbox.Exited
				if c.Init && (sig == syscall.SIGSTOP) {
					want = sandbox.WallLimit
				}
				if !c.Init {
					c.Limits.Wall = time.Minute
				}
				res, err := sb.Run(t.Context(), c)
				require.NoError(t, err)
				require.Equal(t, want, res.Status, "%v, init %v", sig, c.Init)
			}
		}
	})
}

// stops says whether a signal stops a process (signal(7)).
func stops(sig syscall.Signal) bool {
	return sig == syscall.SIGSTOP || sig == syscall.SIGTSTP || sig == syscall.SIGTTIN || sig == syscall.SIGTTOU
}

// Process.Signal is a signal from outside: without a handler only SIGKILL ends PID 1, behind an init every fatal one
// the command. Kill is another status.
func TestSignalFromOutside(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		init := false
		wait := func(script string, do func(p *sandbox.Process)) *sandbox.Result {
			c := sh(script)
			c.Init = init
			c.Pipes = sandbox.PipeStdout
			p, err := sb.Start(t.Context(), c)
			require.NoError(t, err)
			defer p.Stdout.Close()
			_, err = io.ReadFull(p.Stdout, make([]byte, 6)) // "ready\n"
			require.NoError(t, err)
			do(p)
			res, err := p.Wait(t.Context())
			require.NoError(t, err)
			return res
		}
		send := func(sigs ...syscall.Signal) func(p *sandbox.Process) {
			return func(p *sandbox.Process) {
				for _, s := range sigs {
					require.NoError(t, p.Signal(s))
				}
			}
		}
		res := wait("echo ready; sleep 100", send(syscall.SIGTERM, syscall.SIGINT, syscall.SIGKILL))
		require.Equal(t, sandbox.Signaled, res.Status)
		require.Equal(t, syscall.SIGKILL, res.Signal)
		for _, init = range []bool{false, true} {
			res = wait("trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done", send(syscall.SIGTERM))
			require.Equal(t, "exit status 9", res.String())
			res = wait("echo ready; sleep 100", func(p *sandbox.Process) { require.NoError(t, p.Kill()) })
			require.Equal(t, sandbox.Killed, res.Status)
			require.Equal(t, 128+9, res.ExitCode)
		}
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGKILL, 40} {
			res = wait("echo ready; exec sleep 100", send(syscall.SIGSTOP, syscall.SIGCONT, syscall.SIGWINCH, sig))
			require.Equal(t, sandbox.Signaled, res.Status)
			require.Equal(t, sig, res.Signal)
		}
	})
}
