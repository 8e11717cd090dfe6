/*
 * System calls without libc and without headers: an artefact depends on the compiler alone.
 */

#if defined(__x86_64__)

#define NR_CLOSE 3
#define NR_NANOSLEEP 35
#define NR_RECVMSG 47
#define NR_FCNTL 72
#define NR_PRCTL 157
#define NR_EXIT_GROUP 231
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

#define NR_FCNTL 25
#define NR_CLOSE 57
#define NR_NANOSLEEP 101
#define NR_RECVMSG 212
#define NR_PRCTL 167
#define NR_EXIT_GROUP 94
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

#define PR_SET_NAME 15
