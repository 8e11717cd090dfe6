/*
 * Ways in which a command that is PID 1 outlives, or tries to, whoever started it: cling WAY MARK. It prints "up" when it has
 * done its part, and stays.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char **args;

static int stay(void)
{
	write(1, "up\n", 3);
	for (;;)
		pause();
}

/* An execve of a thread that isn't the first ends that, and with it what PR_SET_PDEATHSIG was for. */
static void *again(void *unused)
{
	args[1] = "stay";
	execv("/proc/self/exe", args);
	_exit(10);
	return unused;
}

static long options;
static int up[2];

static void *tracer(void *pid)
{
	write(up[1], syscall(SYS_ptrace, PTRACE_SEIZE, (long)pid, 0, options) ? "n" : "y", 1);
	for (;;)
		pause();
	return pid;
}

/*
 * Traces PID 1, which then stops where it is about to end, and never lets go: by a thread that isn't its process's first or,
 * with a depth, by a process that another one traces so, and so on.
 */
static int trace(int depth)
{
	int alone = depth == 1;
	long pid = 1;
	char byte = 'n';

	if (pipe(up))
		return 11;
	for (; depth > 0; depth--) {
		long child = fork();

		if (child == 0) {
			pthread_t t;
			close(up[0]);
			if (!alone)
				tracer((void *)pid);
			pthread_create(&t, 0, tracer, (void *)pid);
			for (;;)
				pause();
		}
		if (read(up[0], &byte, 1) != 1 || byte != 'y')
			return 12; /* it may not */
		pid = child;
	}
	return stay();
}

int main(int argc, char **argv)
{
	const char *way = argc > 1 ? argv[1] : "";

	args = argv;
	if (!strcmp(way, "stay"))
		return stay();
	if (!strcmp(way, "prctl"))
		return prctl(PR_SET_PDEATHSIG, 0) ? 13 : stay();
	if (!strcmp(way, "thread")) {
		pthread_t t;
		pthread_create(&t, 0, again, 0);
		for (;;)
			pause();
	}
	if (!strcmp(way, "uid"))
		return syscall(SYS_setresuid, 1000, 1000, 1000) ? 14 : stay();
	if (!strcmp(way, "gid"))
		return syscall(SYS_setresgid, 1000, 1000, 1000) ? 15 : stay();
	if (!strcmp(way, "trace"))
		return trace(1);
	options = PTRACE_O_TRACEEXIT;
	if (!strcmp(way, "trace exit"))
		return trace(1);
	if (!strcmp(way, "trace exits"))
		return trace(3);
	return 9;
}
