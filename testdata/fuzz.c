// Makes system calls at random, in children that begin anew when one ends: fuzz SECONDS SEED
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static unsigned long long state;
static unsigned long rnd(void) {
	state ^= state << 13, state ^= state >> 7, state ^= state << 17;
	return state;
}

static char *page;
static long *made;

static unsigned long argument(void) {
	static const char *const paths[] = {"/proc/self/mem", "/dev/null", "/tmp/f", "/", "/proc/1/root", "/dev/ptmx", "/sys", "/proc/self/fd/0", "/dev/shm/x"};
	switch (rnd() % 9) {
	case 0: return rnd() % 16;                            // a descriptor
	case 1: return (unsigned long)page + rnd() % 4096;
	case 2: return (unsigned long)paths[rnd() % 9];
	case 3: return 1ul << rnd() % 64;                     // a flag
	case 4: return rnd();
	case 5: return -1;
	case 6: return rnd() % 4096;
	case 7: return getpid();
	default: return 0;
	}
}

static void work(void) {
	alarm(1); // for calls that wait
	for (int i = 0; i < 8; i++) page[rnd() % 4096] = rnd();
	for (;;) {
		long nr = rnd() % 480;
		++*made;
		syscall(nr, argument(), argument(), argument(), argument(), argument(), argument());
	}
}

int main(int argc, char **argv) {
	time_t end = time(0) + atoi(argv[1]);
	state = strtoull(argv[2], 0, 0) * 2654435761u + 88172645463325252ull;
	made = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int children = 0;
	while (time(0) < end) {
		rnd();
		pid_t pid = fork();
		if (pid == 0) {
			page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			work();
		}
		int status;
		if (pid > 0) {
			// It may have stopped, or have been told to wait for ever with the alarm off.
			for (int ms = 0; waitpid(pid, &status, WNOHANG) == 0; ms++) {
				if (ms == 2000) kill(pid, SIGKILL);
				usleep(1000);
			}
			children++;
		}
	}
	printf("%d children %ld calls\n", children, *made);
	return 0;
}
