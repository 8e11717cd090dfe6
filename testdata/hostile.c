// hostile is a program that does to its sandbox what its first argument names; n is the second, a number. It exits with 0
// when it could do all that it wanted, with 90 and above when something failed that should not.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char block[1 << 16];
static long n;

static void touch(volatile char *p, long size) {
	for (long i = 0; i < size; i += 4096) p[i] = 1;
}
static void *map(long size, int flags, int fd) {
	void *p = mmap(0, size, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (p == MAP_FAILED) _exit(91);
	return p;
}
static void anon(void) { touch(map(n, MAP_PRIVATE | MAP_ANONYMOUS, -1), n); }
static long deep(volatile char *above, long left) {
	volatile char here[4096];
	here[0] = here[4095] = 1;
	return left <= 0 ? above[0] : deep(here, left - 4096) + here[0] + above[0];
}
static void stack(void) { deep((char[]){0}, n); }
static void heap(void) {
	for (long i = 0; i < n; i += sizeof block) {
		char *p = sbrk(sizeof block);
		if (p == (void *)-1) _exit(91);
		touch(p, sizeof block);
	}
}
static void sysv(void) {
	int id = shmget(IPC_PRIVATE, n, 0600);
	char *p = id < 0 ? (void *)-1 : shmat(id, 0, 0);
	if (p == (void *)-1) _exit(91);
	touch(p, n);
}
static void fill(int fd) {
	if (fd < 0) _exit(91);
	for (long i = 0; i < n; i += sizeof block)
		if (write(fd, block, sizeof block) < 0) _exit(errno);
}
static void file(const char *name) { fill(open(name, O_WRONLY | O_CREAT, 0600)); }
static void tmpfs(void) { file("/dev/shm/f"); }
static void disk(void) { file("/f"); }
static void memfd(void) { fill(memfd_create("f", 0)); }
static void pipes(void) {
	for (long i = 0; i < n; i += 1 << 16) {
		int p[2];
		if (pipe(p) < 0) _exit(91);
		fcntl(p[1], F_SETFL, O_NONBLOCK);
		while (write(p[1], block, 4096) > 0) ;
	}
}
static void files(void) {
	char name[64];
	for (long i = 0; i < n; i++) {
		snprintf(name, sizeof name, "/dev/shm/%ld", i);
		if (close(open(name, O_WRONLY | O_CREAT, 0600)) < 0) _exit(errno);
	}
}
static void dirs(void) {
	if (chdir("/dev/shm") < 0) _exit(91);
	for (long i = 0; i < n; i++)
		if (mkdir("d", 0700) < 0 || chdir("d") < 0) _exit(errno);
}
// grandchild lets a child's child do it, and exits with 0 whatever became of that.
static void grandchild(void) {
	if (fork() == 0) {
		if (fork() == 0) anon();
		wait(0);
		_exit(0);
	}
	wait(0);
}

static int ends(void *p) { return *(int *)p; }
static void *sleeps(void *p) { pause(); return p; }
static void *spins(void *p) { for (;;) ; return p; }
static pid_t child(const char *how) {
	if (!strcmp(how, "vfork")) {
		pid_t p = vfork();
		if (p == 0) execl("/proc/self/exe", "hostile", "wait", "0", NULL), _exit(1);
		return p;
	}
	if (!strcmp(how, "clone")) {
		static char stack[4096];
		static int zero;
		return clone(ends, stack + sizeof stack, SIGCHLD, &zero);
	}
	pid_t p = fork();
	if (p == 0) for (;;) { fork(); pause(); }
	return p;
}
// bomb makes processes until it can't, and then waits for the end.
static void bomb(const char *how) {
	for (;;)
		if (child(how) < 0 && errno == EAGAIN) {
			pause();
		}
}
static void threads(void *(*f)(void *), long most) {
	pthread_t t;
	for (long i = 0; i < most; i++)
		if (pthread_create(&t, 0, f, 0)) break;
}
static void zombies(void) {
	for (long i = 0; i < n; i++) {
		pid_t p = fork();
		if (p == 0) _exit(0);
		if (p < 0) return;
		siginfo_t s;
		waitid(P_PID, p, &s, WEXITED | WNOWAIT);
	}
}
static void spin(int sig) { (void)sig; for (;;) ; }
static void stubborn(void) {
	for (int s = 1; s < 64; s++) signal(s, spin);
	kill(getpid(), SIGXCPU);
	spin(0);
}
static void flood(int a, int b) {
	for (;;)
		if (write(a, block, sizeof block) < 0 || write(b, block, sizeof block) < 0) _exit(errno);
}
static void sparse(void) {
	int fd = open("/dev/shm/s", O_WRONLY | O_CREAT, 0600);
	if (ftruncate(fd, 1L << 40) < 0) _exit(errno);
}
static void outlives(void) {
	for (int i = 0; i < 3; i++)
		if (fork() == 0) {
			setsid();
			if (fork() > 0) _exit(0);
			for (int s = 1; s < 64; s++) signal(s, SIG_IGN);
			for (;;) pause();
		}
	usleep(50000);
}

int main(int argc, char **argv) {
	if (argc < 3) return 90;
	const char *how = argv[1];
	n = atol(argv[2]);
#define IS(name) (!strcmp(how, name))
	if (IS("anon")) anon();
	else if (IS("stack")) stack();
	else if (IS("heap")) heap();
	else if (IS("sysv")) sysv();
	else if (IS("tmpfs")) tmpfs();
	else if (IS("disk")) disk();
	else if (IS("memfd")) memfd();
	else if (IS("pipes")) pipes();
	else if (IS("files")) files();
	else if (IS("dirs")) dirs();
	else if (IS("grandchild")) grandchild();
	else if (IS("fork") || IS("vfork") || IS("clone")) bomb(how);
	else if (IS("threads")) { threads(sleeps, 1000); pause(); }
	else if (IS("eagain")) threads(sleeps, n);
	else if (IS("zombies")) zombies();
	else if (IS("spin")) spin(0);
	else if (IS("spin threads")) { threads(spins, n); spin(0); }
	else if (IS("spin processes")) { for (long i = 0; i < n; i++) if (fork() == 0) spin(0); pause(); }
	else if (IS("spin child")) { if (fork() == 0) spin(0); wait(0); }
	else if (IS("stubborn")) stubborn();
	else if (IS("wait")) for (;;) pause();
	else if (IS("stop")) { kill(getpid(), SIGSTOP); _exit(0); }
	else if (IS("outlives")) outlives();
	else if (IS("flood")) flood(1, 1);
	else if (IS("flood stderr")) flood(2, 2);
	else if (IS("flood both")) flood(1, 2);
	else if (IS("sparse")) sparse();
	else if (IS("deaf")) { close(0); close(1); usleep(20000); }
	else if (IS("abort")) abort();
	else if (IS("suicide")) { kill(getpid(), SIGKILL); _exit(0); }
	else if (IS("exit")) _exit(n);
	else _exit(90);
	_exit(0);
}
