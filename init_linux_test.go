package sandbox_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// attackSource tries to take over or end the process that its argument names, without one a child of its own, and prints
// what came of each way.
const attackSource = `
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
static int say(const char *what, long result) {
	printf("%s: %s\n", what, result < 0 ? strerrorname_np(errno) : "ok");
	return result;
}
static long path(const char *pid, const char *name, int flags) {
	char p[64];
	snprintf(p, sizeof p, "/proc/%s/%s", pid, name);
	return open(p, flags);
}
static char state(const char *pid) {
	char text[256] = "", *after;
	int fd = path(pid, "stat", O_RDONLY);
	if (fd < 0 || read(fd, text, sizeof text - 1) < 0 || !(after = strrchr(text, ')'))) return 'X';
	close(fd);
	return after[2];
}
static long look(const char *pid, const char *name) {
	char p[64], to[256];
	snprintf(p, sizeof p, "/proc/%s/%s", pid, name);
	return readlink(p, to, sizeof to);
}
int main(int argc, char **argv) {
	char word[8], own[16], *pid = argv[1];
	int target;
	if (argc < 2) {
		target = fork();
		if (target == 0) for (;;) pause();
		usleep(1000);
		snprintf(own, sizeof own, "%d", target);
		pid = own;
	}
	target = atoi(pid);
	struct iovec mine = {word, sizeof word}, its = {(void *)&main, sizeof word};
	say("mem", path(pid, "mem", O_RDWR));
	printf("fd: %s\n", look(pid, "fd/0") < 0 ? "no" : "ok"); // it has none, and who may not look can't tell
	say("exe", look(pid, "exe"));
	say("root", look(pid, "root"));
	say("environ", path(pid, "environ", O_RDONLY));
	say("maps", path(pid, "maps", O_RDONLY));
	say("namespaces", path(pid, "ns/mnt", O_RDONLY));
	say("pidfd_getfd", syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, target, 0), 0, 0));
	errno = 0;
	long got = process_vm_readv(target, &mine, 1, &its, 1, 0);
	say("process_vm_readv", got < 0 && errno == EFAULT ? 0 : got);
	if (say("seize", ptrace(PTRACE_SEIZE, target, 0, 0)) == 0) {
		ptrace(PTRACE_INTERRUPT, target, 0, 0);
		waitpid(target, 0, __WALL);
		ptrace(PTRACE_DETACH, target, 0, 0);
	}
	int patience = argc > 1 ? 1 : 1000; // what has to come is waited for
	kill(target, SIGSTOP);
	for (int i = 0; i < patience && state(pid) != 'T'; i++) usleep(2000);
	printf("stop: %s\n", state(pid) == 'T' ? "ok" : "no");
	kill(target, SIGCONT);
	for (int sig = 1; sig <= 64; sig++) kill(target, sig);
	for (int i = 0; i < patience && !strchr("XZ", state(pid)); i++) usleep(2000);
	printf("kill: %s\n", strchr("XZ", state(pid)) ? "ok" : "no");
	fflush(stdout);
	return 0;
}
`

// A command can't reach its init, not even as the same user, with all capabilities that there are to be had and from its
// first instruction on. The control is a process beside it.
func TestInitOutOfReach(t *testing.T) {
	testenv.C(t, attackSource)
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		root := rootWith(t, map[string]string{"attack": testenv.C(t, attackSource)})
		sb := box(t, sandbox.Options{Rootfs: root, Security: unfiltered})
		able := box(t, sandbox.Options{Rootfs: root, Security: sandbox.Security{Seccomp: "off", Capabilities: allCapabilities()}})
		for range 50 {
			c := sandbox.Command("/bin/attack", "1")
			c.Init = true
			for line := range strings.Lines(output(t, able, c) + "\n") {
				require.Regexp(t, `: (EPERM|EACCES|no)\n$`, line, "with all capabilities")
			}
		}
		for _, user := range []string{"0", "1"} {
			c := sandbox.Command("/bin/attack", "1")
			c.Init, c.User = true, user
			if user != "0" && os.Geteuid() != 0 {
				continue // has one id
			}
			for range 50 {
				for line := range strings.Lines(output(t, sb, c) + "\n") {
					require.Regexp(t, `: (EPERM|EACCES|no)\n$`, line, "as %s", user)
				}
			}
			c = sandbox.Command("/bin/attack")
			c.Init, c.User = true, user
			for line := range strings.Lines(output(t, sb, c) + "\n") {
				require.Regexp(t, `: ok\n$`, line, "as %s", user)
			}
		}
	})
}

// Where a user has one id, and that is not root's, the init has no capability: it is out of reach nevertheless.
func TestInitOfOneID(t *testing.T) {
	testenv.C(t, attackSource)
	testenv.RootAndUser(t, func(t *testing.T) {
		if os.Geteuid() == 0 {
			return
		}
		leaks(t)
		sb := box(t, sandbox.Options{Rootfs: rootWith(t, map[string]string{"attack": testenv.C(t, attackSource)}), User: "1000", Security: unfiltered})
		c := sandbox.Command("/bin/attack", "1")
		c.Init = true
		for range 50 {
			for line := range strings.Lines(output(t, sb, c) + "\n") {
				require.Regexp(t, `: (EPERM|EACCES|no)\n$`, line)
			}
		}
	})
}

// A command is the same behind an init, but for its number.
func TestInitSame(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{Clock: &sandbox.Clock{Boottime: 1000 * time.Hour}})
		clock := "cut -d. -f1 /proc/uptime | cut -c 1-4"
		if !entersClock() {
			requireNoClock(t, sb)
			sb, clock = box(t, sandbox.Options{}), ""
		}
		c := sh(`umask; pwd; env; cat /proc/self/limits /proc/self/cgroup /proc/self/oom_score_adj /proc/self/personality
			grep -v -E '^(Pid|PPid|Tgid|NS.*|Vm.*|Rss.*|.*ctxt_switches|SigQ|Mems.*):' /proc/self/status
			for f in /proc/$$/fd/*; do echo $f | grep -o '[0-9]*$'; done
			set -- $(cat /proc/$$/stat); echo session $(($6 - $1)) group $(($5 - $1)) parent $4 terminal $7 nice ${19} policy ${41}
			` + clock)
		ways := bothWays(c)
		require.Equal(t, output(t, sb, ways[0]), output(t, sb, ways[1]))
		require.Equal(t, "1 0", shell(t, sb, "echo $$ $PPID"))
		attributes := func(init bool) map[string]string {
			c := attemptCmd(t, "attributes")
			c.Init = init
			all := parseAttributes(t, output(t, sb, c))
			delete(all, "sid") // the command's own pid
			delete(all, "pgrp")
			return all
		}
		require.Equal(t, attributes(false), attributes(true))
		c = sh("echo $$ $PPID; cat /proc/1/comm")
		c.Init = true
		require.Equal(t, "2 0\ninit", output(t, sb, c))
	})
}

// Limits hold for the command, and count it alone: the init is in none of its cgroups.
func TestInitLimits(t *testing.T) {
	withDies(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{Rootfs: diesRoot(t)})
		run := func(c *sandbox.Cmd, l sandbox.Limits) *sandbox.Result {
			c.Init, c.Limits = true, l
			res, err := sb.Run(t.Context(), c)
			require.NoError(t, err)
			return res
		}
		require.Equal(t, sandbox.WallLimit, run(die("raise", "19"), sandbox.Limits{Wall: 50 * time.Millisecond}).Status)
		var out counter
		flood := die("flood")
		flood.Stdout = &out
		require.Equal(t, sandbox.OutputLimit, run(flood, sandbox.Limits{Output: 1000}).Status)
		require.EqualValues(t, 1000, out.n.Load())

		c := die("exit", "0")
		c.Init, c.Limits = true, sandbox.Limits{PIDs: 1, Memory: 16 << 20}
		if !needsCgroup(t, sb, c) {
			return
		}
		res := run(c, c.Limits)
		require.Equal(t, "exit status 0", res.String())
		require.Empty(t, res.Hit)
		require.Equal(t, []any{int64(1), sandbox.FromCgroup, sandbox.FromCgroup}, []any{res.Usage.PIDsPeak, res.Usage.PIDsSource, res.Usage.CPUSource})
		require.Equal(t, []sandbox.Hit{{Status: sandbox.PIDsLimit, Scope: sandbox.ScopeCmd}}, run(die("fork", "3"), sandbox.Limits{PIDs: 1}).Hit)
		require.Equal(t, sandbox.MemoryLimit, run(die("touch", "50000000"), sandbox.Limits{Memory: 16 << 20}).Status)
		require.Equal(t, sandbox.MemoryLimit, run(die("exit", "0"), sandbox.Limits{Memory: 4096}).Status)
		// The init does not die of a limit of the sandbox's, either.
		sum := box(t, sandbox.Options{Rootfs: diesRoot(t), Limits: sandbox.Limits{Memory: 16 << 20, PIDs: 1}})
		c = die("touch", "50000000")
		c.Init = true
		res, err := sum.Run(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, sandbox.MemoryLimit, res.Status)
		require.Equal(t, int64(1), res.Usage.PIDsPeak)
	})
}

// Orphans are reaped without an end: a command may make far more of them than its limit of processes.
func TestInitReaps(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		c := sh(`i=0; while [ $i -lt 500 ]; do (true &); i=$((i+1)); done
			for i in 1 2 3 4 5 6 7 8 9 10; do grep -l '^State:.Z' /proc/[0-9]*/status >/dev/null 2>&1 || exit 0; sleep 0.1; done; exit 1`)
		if os.Geteuid() == 0 {
			c.Limits.PIDs = 32
		}
		ways := bothWays(c)
		ways[1].Limits = c.Limits
		res, err := sb.Run(t.Context(), ways[1])
		require.NoError(t, err)
		require.Equal(t, "exit status 0", res.String())
	})
}

// Nothing that the command leaves behind outlives it, and a killed one ends with all that it started.
func TestInitEnds(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		for i, end := range []string{"exit 3", "kill -KILL $$", "exec sleep 1000"} {
			c := sh(`trap '' TERM; for i in 1 2 3; do setsid sh -c 'sleep 1000 & sleep 1000' & done; ` + end)
			c.Init = true
			p, err := sb.Start(t.Context(), c)
			require.NoError(t, err)
			if i == 2 {
				time.Sleep(20 * time.Millisecond)
				require.NoError(t, p.Kill())
			}
			res, err := p.Wait(t.Context())
			require.NoError(t, err)
			require.Equal(t, []string{"exit status 3", "signal: killed", "killed"}[i], res.String())
			require.ErrorIs(t, p.Signal(syscall.SIGTERM), os.ErrProcessDone)
			require.ErrorIs(t, syscall.Kill(p.PID(), 0), syscall.ESRCH, fmt.Sprint(p.PID()))
		}
	})
}
