// Installs the filter on stdin in a child for each argument, NUMBER:ARG0:…:ARG5, does that call and prints its result,
// a negated errno if it failed, or "signal N" if it ended the child. i386: before the number makes it by int 0x80.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
	static struct sock_filter code[8192];
	size_t n = fread(code, sizeof code[0], 8192, stdin);
	struct sock_fprog prog = {.len = n, .filter = code};
	long *result = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 1; i < argc; i++) {
		int old = !strncmp(argv[i], "i386:", 5);
		char *s = argv[i] + 5 * old;
		unsigned long v[7] = {0};
		for (int k = 0; k < 7 && *s; k++) {
			v[k] = strtoul(s, &s, 0);
			if (*s == ':') s++;
		}
		*result = -1000;
		fflush(stdout);
		pid_t pid = fork();
		if (pid == 0) {
			if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) _exit(3);
			if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog)) {
				*result = -10000 - errno;
				_exit(0);
			}
			long r;
#ifdef __x86_64__
			if (old) {
				unsigned eax = v[0];
				__asm__ volatile("int $0x80" : "+a"(eax) : "b"(v[1]), "c"(v[2]), "d"(v[3]) : "r8", "r9", "r10", "r11", "memory");
				r = (int)eax;
			} else
#endif
			{
				r = syscall(v[0], v[1], v[2], v[3], v[4], v[5], v[6]);
				if (r == -1) r = -errno;
			}
			*result = r;
			_exit(0);
		}
		int status;
		if (waitpid(pid, &status, 0) != pid) return 4;
		if (WIFSIGNALED(status)) printf("signal %d\n", WTERMSIG(status));
		else printf("%ld\n", *result);
	}
	return 0;
}
