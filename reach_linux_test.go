package sandbox_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
	"github.com/seed-5a9fb6e0/sandbox/rootfs"
)

// reachSource goes for every process beside it, all the time: for what it executes, its memory, its descriptors, by
// ptrace(2) and by pidfd_getfd(2). It says what it got of one that executes the embedding program, and when it got a
// descriptor out of one.
const reachSource = `
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static int look; // and don't touch: one that is traced can be held for good
static int embedder(int pid) {
	char path[64], exe[4096];
	sprintf(path, "/proc/%d/exe", pid);
	ssize_t n = readlink(path, exe, sizeof exe - 1);
	if (n < 0) return 0;
	exe[n] = 0;
	return strstr(exe, "/true") == NULL && strstr(exe, "hostile") == NULL;
}
static void try(int pid) {
	char path[64], b[64];
	if (embedder(pid)) { printf("exe of %d\n", pid); fflush(stdout); }
	sprintf(path, "/proc/%d/mem", pid);
	int fd = open(path, O_RDWR);
	if (fd >= 0) {
		if (embedder(pid)) { printf("memory of %d\n", pid); fflush(stdout); }
		close(fd);
	}
	sprintf(path, "/proc/%d/environ", pid);
	if ((fd = open(path, O_RDONLY)) >= 0) {
		char env[4096];
		ssize_t n = read(fd, env, sizeof env - 1);
		if (n > 0 && memmem(env, n, "EMBEDDER_SECRET", 15)) { printf("environment of %d\n", pid); fflush(stdout); }
		close(fd);
	}
	const char *telling[][2] = {{"cmdline", "-test."}, {"comm", ".test"}, {"mountinfo", "/sys/fs/cgroup/"}};
	for (int i = 0; i < 3; i++) {
		static char text[1 << 16];
		sprintf(path, "/proc/%d/%s", pid, telling[i][0]);
		if ((fd = open(path, O_RDONLY)) < 0) continue;
		ssize_t n = read(fd, text, sizeof text);
		if (n > 0 && memmem(text, n, telling[i][1], strlen(telling[i][1]))) { printf("%s of %d\n", telling[i][0], pid); fflush(stdout); }
		close(fd);
	}
	int p = syscall(SYS_pidfd_open, pid, 0);
	if (p >= 0) {
		for (int i = 3; i < 40; i++) {
			int got = syscall(SYS_pidfd_getfd, p, i, 0);
			if (got >= 0) {
				sprintf(path, "/proc/self/fd/%d", got);
				ssize_t n = readlink(path, b, sizeof b - 1);
				if (n > 0 && embedder(pid)) { b[n] = 0; printf("descriptor %s of %d\n", b, pid); fflush(stdout); }
				close(got);
			}
		}
		close(p);
	}
	if (!look && ptrace(PTRACE_SEIZE, pid, 0, 0) == 0) {
		if (embedder(pid)) { printf("trace of %d\n", pid); fflush(stdout); }
		ptrace(PTRACE_DETACH, pid, 0, 0);
		kill(pid, SIGKILL);
	}
}
int main(int argc, char **argv) {
	int stop = argc > 1 && strcmp(argv[1], "stop") == 0; // stop everybody, too
	look = argc > 1 && strcmp(argv[1], "look") == 0;
	for (int i = 0; i < 3; i++) if (fork() == 0) break;
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		if (stop) kill(-1, SIGSTOP), kill(-1, SIGCONT);
		DIR *d = opendir("/proc");
		struct dirent *e;
		while (d && (e = readdir(d)) != NULL) {
			int pid = atoi(e->d_name);
			if (pid > 4 && pid != getpid()) try(pid);
		}
		if (d) closedir(d);
		// also those that are not there yet
		for (int pid = getpid() + 1; pid < getpid() + 6; pid++) if (pid > 4) try(pid);
	}
}`

// A hostile command reaches nothing of the embedding program by those that are started beside it, as root or as an ordinary
// user, with CAP_SYS_PTRACE or without. With the guard off it does.
func TestExecOutOfReach(t *testing.T) {
	program := testenv.C(t, reachSource)
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		data, err := os.ReadFile(program)
		require.NoError(t, err)
		t.Setenv("EMBEDDER_SECRET", "hidden")
		attack := func(t *testing.T, s sandbox.Security, args ...string) string {
			sb := box(t, sandbox.Options{Security: s, Mounts: []rootfs.Mount{{Type: rootfs.File, Target: "/hostile", Data: data, Mode: 0o555}}})
			hostile := sandbox.Command("/hostile", args...)
			hostile.Pipes = sandbox.PipeStdout
			p, err := sb.Start(t.Context(), hostile)
			require.NoError(t, err)
			var said strings.Builder
			var reader sync.WaitGroup
			ready := make(chan struct{})
			reader.Go(func() {
				b := make([]byte, 4096)
				for once := sync.OnceFunc(func() { close(ready) }); ; {
					n, err := p.Stdout.Read(b)
					once()
					said.Write(b[:n])
					if err != nil || said.Len() > 1<<20 {
						return
					}
				}
			})
			<-ready
			for range 60 {
				// One that is traced may be held for good, but for ourselves.
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				_, err := p.Run(ctx, sandbox.Command("true"))
				if err != nil {
					require.ErrorIs(t, err, context.DeadlineExceeded)
				}
				cancel()
			}
			require.NoError(t, p.Kill())
			_, err = p.Wait(t.Context())
			require.NoError(t, err)
			require.NoError(t, p.Stdout.Close())
			reader.Wait()
			return strings.TrimSpace(strings.ReplaceAll(said.String(), "ready\n", ""))
		}
		// Landlock alone would do, where there is any: a process that it confines can't trace one that it doesn't.
		unguarded := sandbox.Security{Nesting: true, Seccomp: "off", Capabilities: "CAP_SYS_PTRACE,CAP_KILL,CAP_DAC_OVERRIDE,CAP_SETFCAP"}
		for name, s := range map[string]sandbox.Security{
			"default":        {},
			"no filter":      {Seccomp: "off"},
			"CAP_SYS_PTRACE": {Seccomp: "off", Capabilities: "CAP_SYS_PTRACE,CAP_KILL,CAP_DAC_OVERRIDE"},
			"no Landlock":    unguarded,
		} {
			t.Run(name, func(t *testing.T) { require.Empty(t, attack(t, s)) })
		}
		t.Run("control", func(t *testing.T) {
			spawn.SetHook(&spawn.Hook{PauseAt: -1, Reachable: true})
			defer spawn.SetHook(nil)
			said := ""
			for range 50 {
				if said += attack(t, unguarded, "look"); said != "" {
					break
				}
			}
			require.Contains(t, said, " of ")
		})
	})
}

// A hostile command that stops everybody beside it keeps a start from going on, for as long as its context says, and nothing
// else: not the embedding program, nor starts elsewhere.
func TestExecHeldUp(t *testing.T) {
	program := testenv.C(t, reachSource)
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		data, err := os.ReadFile(program)
		require.NoError(t, err)
		sb := box(t, sandbox.Options{Mounts: []rootfs.Mount{{Type: rootfs.File, Target: "/hostile", Data: data, Mode: 0o555}}})
		p, err := sb.Start(t.Context(), sandbox.Command("/hostile", "stop"))
		require.NoError(t, err)
		other := box(t, sandbox.Options{})
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 20 {
					ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
					r, err := p.Run(ctx, sandbox.Command("true"))
					if err == nil && r.Err() != nil && r.Signal != syscall.SIGKILL && r.Signal != syscall.SIGSTOP {
						t.Error(r.Err())
					}
					cancel()
				}
			})
		}
		for range 40 {
			r, err := other.Run(t.Context(), sandbox.Command("true"))
			require.NoError(t, err)
			require.NoError(t, r.Err())
		}
		all.Wait()
		require.NoError(t, p.Kill())
		_, err = p.Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, exec.Command("true").Run(), "the embedding program goes on")
	})
}
