/*
 * PID 1 of a command's PID namespace, with the command beside it.
 *
 * There is nothing for it to do. Orphans become its children (pid_namespaces(7)),
 * and the kernel buries them without waking it: it is started with SIGCHLD
 * ignored, which is kept over exec (wait(2), "POSIX.1-2001 specifies"). It has no
 * handler, so signals from within its namespace are dropped before they reach it,
 * SIGKILL too; from outside only SIGKILL and SIGSTOP do. It reads nothing, holds no
 * descriptor, and ends by the SIGKILL of its embedder or, when that has ended, of
 * the kernel (PR_SET_PDEATHSIG, kept over exec). With it ends its namespace.
 *
 * No libc, no headers: the artefact depends on the compiler alone.
 */

#if defined(__x86_64__)

#define NR_PRCTL 157
#define NR_PPOLL 271

static long call(long nr, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long result;

	__asm__ volatile("syscall"
		: "=a"(result)
		: "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
		: "rcx", "r11", "memory");
	return result;
}

#elif defined(__aarch64__)

#define NR_PRCTL 167
#define NR_PPOLL 73

static long call(long nr, long a, long b, long c, long d)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;

	__asm__ volatile("svc 0"
		: "+r"(x0)
		: "r"(x8), "r"(x1), "r"(x2), "r"(x3)
		: "memory");
	return x0;
}

#else
#error "no system call for this processor"
#endif

#define PR_SET_DUMPABLE 4
#define PR_SET_NAME 15

void _start(void)
{
	/*
	 * Out of reach for ptrace(2) and /proc/1. It is from its exec on, since its
	 * file can't be read (see Open); but not where fs.suid_dumpable is 1.
	 */
	call(NR_PRCTL, PR_SET_DUMPABLE, 0, 0, 0);
	/* Executed by descriptor it would be called by that number. */
	call(NR_PRCTL, PR_SET_NAME, (long)"init", 0, 0);
	for (;;)
		call(NR_PPOLL, 0, 0, 0, 0); /* for ever: no descriptors, no time-out */
}
