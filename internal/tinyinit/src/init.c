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
 */

#include "call.h"

#define PR_SET_DUMPABLE 4

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
