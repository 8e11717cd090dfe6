/*
 * Kills commands when the program that started them has ended.
 *
 * The kernel does that, too (PR_SET_PDEATHSIG), but a command that is PID 1 of its PID namespace can undo it, under every
 * filter: by an execve from a thread that isn't its first, or by a change of ids (prctl(2)). So each hands the guard a pidfd
 * of itself, before its exec, over a socket whose other end the embedder has. When that has ended, or has replaced itself
 * by execve(2), all get a SIGKILL, and with each its PID namespace ends; then the guard does.
 *
 * It needs no memory: what it guards is its descriptors. Most commands take a millisecond, so it looks for new ones no more
 * often than every five. Commands that have ended it drops when about as many new ones have come as it has, when it has no
 * room, and every two seconds or four hundred looks: a pidfd keeps the namespaces of its process.
 *
 * It is in a session of its own, with all signals blocked, and writes nothing.
 */

#include "call.h"

#define NR_PIDFD_SEND_SIGNAL 424

#define POLLIN 1
#define POLLHUP 16
#define MSG_DONTWAIT 0x40
#define MSG_CMSG_CLOEXEC 0x40000000
#define SIGKILL 9
#define F_DUPFD_CLOEXEC 1030

/* Its descriptors: see ExecGuard. */
#define SOCKET 0
#define EMBEDDER 1
#define FIRST 2 /* of a command */

#define FEW 64 /* commands that have ended may stay for a while */

/* What take() returns but a descriptor. */
#define NOTHING -1
#define OVER -2

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

/* The highest descriptor of a command, and how many there are. */
struct commands {
	int last, count;
};

/* Drops those that have ended. */
static void sweep(struct commands *c)
{
	for (int fd = FIRST; fd <= c->last; fd++)
		if (readable(fd) && call(NR_CLOSE, fd, 0, 0, 0) == 0)
			c->count--;
}

/* Kills all, and drops them. */
static void kill_all(struct commands *c)
{
	for (int fd = FIRST; fd <= c->last; fd++) {
		call(NR_PIDFD_SEND_SIGNAL, fd, SIGKILL, 0, 0);
		call(NR_CLOSE, fd, 0, 0, 0);
	}
	c->last = EMBEDDER;
	c->count = 0;
}

/* Says whether one more descriptor can be taken: one that can't be would be lost. */
static int room(void)
{
	int fd = call(NR_FCNTL, SOCKET, F_DUPFD_CLOEXEC, 0, 0);

	if (fd < 0)
		return 0;
	call(NR_CLOSE, fd, 0, 0, 0);
	return 1;
}

/* Takes the pidfd of a command: NOTHING when there is none now, OVER when the other end of the socket is closed. */
static int take(void)
{
	char byte;
	struct iovec iov = { &byte, 1 };
	struct cmsg cmsg = { 0, 0, 0, NOTHING, 0 };
	struct msghdr msg = { 0, 0, &iov, 1, &cmsg, sizeof(cmsg), 0 };
	long n = call(NR_RECVMSG, SOCKET, (long)&msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC, 0);

	if (n < 0)
		return NOTHING;
	return n == 0 ? OVER : cmsg.fd;
}

/* Takes all that there are, as far as there is room; returns how many, or OVER. */
static int take_all(struct commands *c)
{
	int taken = 0;

	for (;;) {
		int fd;

		if (!room())
			sweep(c);
		if (!room())
			return taken; /* the others wait in the socket, and then their starts do */
		fd = take();
		if (fd < FIRST)
			return fd == OVER ? OVER : taken;
		taken++, c->count++;
		if (c->last < fd)
			c->last = fd;
	}
}

void _start(void)
{
	struct timespec pause = { 0, 5000000 };
	struct commands commands = { EMBEDDER, 0 };
	int fresh = 0, rounds = 0, over = 0;

	call(NR_PRCTL, PR_SET_NAME, (long)"sandbox-guard", 0, 0);
	while (!over) {
		struct pollfd both[2] = { { SOCKET, POLLIN, 0 }, { EMBEDDER, POLLIN, 0 } };
		struct timespec while_guarding = { 2, 0 };
		int n = call(NR_PPOLL, (long)both, 2, commands.count ? (long)&while_guarding : 0, 0);
		int taken = n == 0 ? 0 : take_all(&commands);

		over = taken == OVER || both[1].revents || both[0].revents & POLLHUP;
		if (over)
			break;
		fresh += taken;
		if (n == 0 || ++rounds >= 400 || (fresh > FEW && 2 * fresh > commands.count)) {
			sweep(&commands);
			fresh = rounds = 0;
		}
		call(NR_NANOSLEEP, (long)&pause, 0, 0, 0);
	}
	do {
		kill_all(&commands);
		take_all(&commands); /* what had been sent, and had no room */
	} while (commands.count);
	call(NR_EXIT_GROUP, 0, 0, 0, 0);
}
