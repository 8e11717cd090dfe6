// Takes all that there is of something, but at most MOST, in many processes, and keeps it: flood WHAT MOST PROCESSES
// SECONDS. Prints what each process got, and why no more. With SECONDS 0 each gives it back at once.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char block[1 << 20];
static int serial;

static int pty(void) { return open("/dev/ptmx", O_RDWR | O_NOCTTY); }
static int descriptor(void) { return dup(0); }
static int inotify(void) { return inotify_init1(0); }
static int timer(void) {
	timer_t t;
	struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
	return timer_create(CLOCK_MONOTONIC, &e, &t);
}
static int signals(void) { // queued, and never taken
	sigset_t s;
	sigemptyset(&s);
	sigaddset(&s, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &s, 0);
	return sigqueue(getpid(), SIGRTMIN, (union sigval){0});
}
static int queue(void) {
	char name[64];
	snprintf(name, sizeof name, "/m%d-%d", getpid(), serial++);
	int fd = mq_open(name, O_CREAT | O_RDWR, 0600, &(struct mq_attr){0, 10, 8192});
	if (fd >= 0) mq_unlink(name); // lives as long as it is open
	return fd;
}
static int filled_pipe(void) {
	int p[2];
	if (pipe2(p, O_NONBLOCK)) return -1;
	fcntl(p[1], F_SETPIPE_SZ, sizeof block);
	return write(p[1], block, sizeof block) < 0 ? -1 : 0;
}
static int filled_socket(void) {
	int s[2];
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, s)) return -1;
	while (send(s[0], block, 1 << 16, 0) > 0) {
	}
	return 0;
}
static int epoll(void) {
	struct epoll_event e = {EPOLLIN};
	int fd = epoll_create1(0);
	return fd < 0 ? -1 : epoll_ctl(fd, EPOLL_CTL_ADD, eventfd(0, 0), &e);
}
static int lock(void) { // of a byte in a file that everybody has
	static int fd = -1;
	if (fd < 0) fd = open("/tmp/locked", O_RDWR | O_CREAT, 0600);
	return fcntl(fd, F_SETLK, &(struct flock){F_WRLCK, SEEK_SET, 2 * serial++, 1, 0});
}
static int cached(void) { // a file's pages
	static int fd = -1;
	if (fd < 0) fd = open("/tmp/cached", O_RDWR | O_CREAT, 0600);
	if (serial++ == 256) serial = 1, lseek(fd, 0, SEEK_SET);
	return write(fd, block, 1 << 16) < 0 ? -1 : 0;
}

static const struct { const char *name; int (*f)(void); } all[] = {
	{"pty", pty}, {"descriptor", descriptor}, {"inotify", inotify}, {"timer", timer}, {"signals", signals}, {"queue", queue},
	{"pipe", filled_pipe}, {"socket", filled_socket}, {"epoll", epoll}, {"lock", lock}, {"cached", cached}, {0},
};

int main(int argc, char **argv) {
	int (*take)(void) = 0, most = atoi(argv[2]), seconds = atoi(argv[4]);
	for (int i = 0; all[i].name; i++)
		if (!strcmp(all[i].name, argv[1])) take = all[i].f;
	if (!take) return 2;
	struct rlimit l;
	getrlimit(RLIMIT_NOFILE, &l);
	l.rlim_cur = l.rlim_max;
	setrlimit(RLIMIT_NOFILE, &l);
	for (int p = atoi(argv[3]); p > 0; p--) {
		pid_t pid = fork();
		if (pid < 0) return 3;
		if (pid > 0) continue;
		int n = 0;
		while (n < most && take() >= 0) n++;
		printf("%d %s\n", n, n == most ? "ok" : strerrorname_np(errno));
		fflush(stdout);
		if (seconds) pause();
		_exit(0);
	}
	if (seconds) {
		sleep(seconds);
		signal(SIGTERM, SIG_IGN);
		kill(0, SIGTERM);
	}
	while (wait(0) > 0) {
	}
	return 0;
}
