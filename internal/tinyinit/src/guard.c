/*
 * Kills commands when the program that started them has ended.
 *
 * The kernel does that, too (PR_SET_PDEATHSIG), but a command that is PID 1 of its PID namespace can undo it, under every
 * filter: by an execve from a thread that isn't its first, or by a change of ids (prctl(2)). So each hands the guard a pidfd
 * of itself, before its exec, over a socket whose other end the embedder has. When that has ended, or has replaced itself
 * by execve(2), all get a SIGKILL, and with each its PID namespace ends; then the guard does.
 *
 * It needs no memory: what it guards is its descriptors. Most commands take a millisecond, so it looks for new ones no more
 * often than every five; those that have ended it drops when as many new ones have come as it has.
 *
 * It is in a session of its own, with all signals blocked, and writes nothing.
 */

#include "call.h"

#define NR_PIDFD_SEND_SIGNAL 424

#define POLLIN 1
#define MSG_DONTWAIT 0x40
#define MSG_CMSG_CLOEXEC 0x40000000
#define SIGKILL 9

/* Its descriptors: see ExecGuard. */
#define SOCKET 0
#define EMBEDDER 1
#define FIRST 2 /* of a command */

#define FEW 64 /* dead ones may stay */

struct pollfd {
	int fd;
	short events, revents;
};

struct timespec {
	long seconds, nanoseconds;
};

struct iovec {
	void *base;
	unsigned long size;
};

struct msghdr {
	void *name;
	unsigned int namesize;
	struct iovec *iov;
	unsigned long iovs;
	void *control;
	unsigned long controlsize;
	int flags;
};

struct cmsg {
	unsigned long size;
	int level, type, fd, padding;
};

/* A pidfd is readable when the process has ended. A number that is none is, too. */
static int readable(int fd)
{
	struct pollfd p = { fd, POLLIN, 0 };
	struct timespec now = { 0, 0 };

	return call(NR_PPOLL, (long)&p, 1, (long)&now, 0) > 0;
}

/* Takes the next command: its pidfd, -1 when there is none yet, 0 when the other end of the socket is closed. */
static int take(void)
{
	char byte;
	struct iovec iov = { &byte, 1 };
	struct cmsg cmsg = { 0, 0, 0, -1, 0 };
	struct msghdr msg = { 0, 0, &iov, 1, &cmsg, sizeof(cmsg), 0 };
	long n = call(NR_RECVMSG, SOCKET, (long)&msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC, 0);

	if (n < 0)
		return -1;
	return n == 0 ? 0 : cmsg.fd;
}

void _start(void)
{
	struct timespec pause = { 0, 5000000 };
	int last = EMBEDDER, held = 0, fresh = 0, over = 0;

	call(NR_PRCTL, PR_SET_NAME, (long)"sandbox-guard", 0, 0);
	while (!over) {
		struct pollfd both[2] = { { SOCKET, POLLIN, 0 }, { EMBEDDER, POLLIN, 0 } };
		int fd;

		call(NR_PPOLL, (long)both, 2, 0, 0);
		over = both[1].revents; /* before what it has sent is taken */
		while ((fd = take()) > 0) {
			held++, fresh++;
			if (last < fd)
				last = fd;
		}
		over |= fd == 0;
		if (!over && fresh > FEW && 2 * fresh > held) {
			for (fd = FIRST; fd <= last; fd++)
				if (readable(fd) && call(NR_CLOSE, fd, 0, 0, 0) == 0)
					held--;
			fresh = 0;
		}
		if (!over)
			call(NR_NANOSLEEP, (long)&pause, 0, 0, 0);
	}
	for (int fd = FIRST; fd <= last; fd++)
		call(NR_PIDFD_SEND_SIGNAL, fd, SIGKILL, 0, 0);
	call(NR_EXIT_GROUP, 0, 0, 0, 0);
}
