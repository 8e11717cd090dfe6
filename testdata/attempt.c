// Attempts to get out of a sandbox, and what a program can see of itself. Each
// is harmless where it succeeds. "attempt NAME [ARG…]" prints the errno's name, or "ok".
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/capability.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char **arg;

static int num(const char *s) { return (int)strtol(s, 0, 0); }

// mount FSTYPE TARGET
static int mount_fs(void) { return mount("none", arg[1], arg[0], 0, 0); }
static int mount_bind(void) { return mount(arg[0], arg[1], 0, MS_BIND, 0); }
static int remount_rw(void) {
	struct statvfs is = {0};
	statvfs(arg[0], &is); // the others may be locked (mount_namespaces(7))
	mount(arg[0], arg[0], 0, MS_BIND, 0); // where it may
	return mount(0, arg[0], 0, MS_REMOUNT | MS_BIND | (is.f_flag & (ST_NOSUID | ST_NODEV | ST_NOEXEC)), 0);
}
static int make_shared(void) { return mount(0, "/", 0, MS_SHARED | MS_REC, 0); }
static int umount_it(void) {
	mount("/dev/null", arg[0], 0, MS_BIND, 0); // where it may: one that is not locked
	mount("none", arg[0], "tmpfs", 0, 0);
	return umount2(arg[0], MNT_DETACH);
}
static int fs_open(void) { return syscall(SYS_fsopen, "tmpfs", 0); }
static int tree_clone(void) { return syscall(SYS_open_tree, AT_FDCWD, "/", 1 | 0x8000 /* OPEN_TREE_CLONE, AT_RECURSIVE */); }
static int set_attr(void) {
	struct { unsigned long long set, clr, propagation, fd; } attr = {.clr = 1 /* MOUNT_ATTR_RDONLY */};
	return syscall(SYS_mount_setattr, AT_FDCWD, arg[0], 0, &attr, sizeof attr);
}
static int pivot_only(void) {
	mount("none", arg[0], "tmpfs", 0, 0); // where it may; else pivot_root's own answer counts
	if (chdir(arg[0])) return -1;
	return syscall(SYS_pivot_root, ".", ".");
}
// chroot_out DIR NAME: the old way out of a chroot; is NAME there?
static int chroot_out(void) {
	struct stat st;
	mkdir(arg[0], 0755);
	if (chroot(arg[0])) return -1;
	for (int i = 0; i < 64; i++)
		if (chdir("..")) return -1;
	if (chroot(".")) return -1;
	return stat(arg[1], &st);
}
static int unshare_it(void) { return unshare(num(arg[0])); }
static int clone3_it(void) {
	unsigned long long args[11] = {strtoull(arg[0], 0, 0)};
	args[4] = SIGCHLD;
	int pid = syscall(SYS_clone3, args, sizeof args);
	if (pid == 0) _exit(0);
	if (pid > 0) waitpid(pid, 0, 0);
	return pid < 0 ? -1 : 0;
}
// setns PATH FLAG
static int setns_it(void) {
	int fd = open(arg[0], O_RDONLY);
	return fd < 0 ? -1 : setns(fd, num(arg[1]));
}
// mknod PATH b|c MAJOR MINOR
static int mknod_it(void) {
	return mknod(arg[0], (arg[1][0] == 'b' ? S_IFBLK : S_IFCHR) | 0600, makedev(num(arg[2]), num(arg[3])));
}
static int open_w(void) { return open(arg[0], O_WRONLY | O_NOFOLLOW); }
static int open_r(void) { return open(arg[0], O_RDONLY); }
static int create(void) { return open(arg[0], O_WRONLY | O_CREAT | O_EXCL, 0600); }
static int empty(void) { // EEXIST: a byte can be read
	char c;
	int fd = open(arg[0], O_RDONLY | O_NONBLOCK);
	if (fd < 0) return -1;
	if (read(fd, &c, 1) > 0) return errno = EEXIST, -1;
	return 0;
}
static int alg_socket(void) { return socket(AF_ALG, SOCK_SEQPACKET, 0); }
static int no_pdeathsig(void) { return prctl(PR_SET_PDEATHSIG, 0); }
static int working_dir(void) { char b[4096]; return syscall(SYS_getcwd, b, sizeof b) < 0 ? -1 : 0; }
static int set_lease(void) { return fcntl(99, F_SETLEASE, F_WRLCK); }
static int host_name(void) { return sethostname("evil", 4); }
static int domain_name(void) { return setdomainname("evil", 4); }
static int raw_socket(void) { return socket(AF_INET, SOCK_RAW, IPPROTO_ICMP); }
static int packet_socket(void) { return socket(AF_PACKET, SOCK_RAW, htons(3)); }
static int set_time(void) { // to what it is; ns: a control can only have the permission checked
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	return clock_settime(CLOCK_REALTIME, &ts);
}
static int ptrace_it(void) {
	if (ptrace(PTRACE_SEIZE, num(arg[0]), 0, 0)) return -1;
	return ptrace(PTRACE_DETACH, num(arg[0]), 0, 0), 0;
}
static int read_memory(void) {
	char c;
	struct iovec l = {&c, 1}, r = {(void *)1, 1};
	process_vm_readv(num(arg[0]), &l, 1, &r, 1, 0);
	return errno == EFAULT ? 0 : -1; // the address is not mapped: we may
}
static int pidfd_get(void) {
	int fd = syscall(SYS_pidfd_open, num(arg[0]), 0);
	return fd < 0 ? -1 : syscall(SYS_pidfd_getfd, fd, 0, 0);
}
static int signal_it(void) { return kill(num(arg[0]), 0); }
static int kill_all(void) { return kill(-1, SIGKILL); }
static int fifo_sched(void) {
	struct sched_param p = {1};
	return sched_setscheduler(0, SCHED_FIFO, &p);
}
static int nice_up(void) { return setpriority(PRIO_PROCESS, 0, -5); }
static int oom_less(void) {
	int fd = open("/proc/self/oom_score_adj", O_WRONLY);
	return fd < 0 ? -1 : write(fd, "-1", 2) == 2 ? 0 : -1;
}
static int raise_core(void) {
	struct rlimit l = {1 << 20, 1 << 20};
	return setrlimit(RLIMIT_CORE, &l);
}
static int by_handle(void) {
	char buf[128];
	struct file_handle *h = (void *)buf;
	int id, dir;
	h->handle_bytes = 100;
	if (name_to_handle_at(AT_FDCWD, arg[0], h, &id, 0)) return -1;
	dir = open(arg[0], O_RDONLY);
	return open_by_handle_at(dir, h, O_PATH);
}
static int chown_it(void) { return chown(arg[0], num(arg[1]), num(arg[1])); }
static int set_uid(void) { return setresuid(num(arg[0]), num(arg[0]), num(arg[0])); }
// add_key DESCRIPTION: to the session keyring; read_key DESCRIPTION: from there
static int add_key(void) { return syscall(SYS_add_key, "user", arg[0], "secret", 6, -3); }
static int read_key(void) {
	long id = syscall(SYS_keyctl, 10 /* SEARCH */, -3, "user", arg[0], 0);
	return id < 0 ? -1 : 0;
}
static int abstract(int bound, const char *name) {
	struct sockaddr_un { sa_family_t f; char path[108]; } a = {AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	strcpy(a.path + 1, name);
	socklen_t n = sizeof a.f + 1 + strlen(name);
	if (!bound) return connect(fd, (void *)&a, n);
	return bind(fd, (void *)&a, n) || listen(fd, 1) ? -1 : fd;
}
static int abstract_listen(void) { // and stays
	if (abstract(1, arg[0]) < 0) return -1;
	return puts("ready"), fflush(stdout), pause();
}
static int abstract_connect(void) { return abstract(0, arg[0]); }

// Programs rather than attempts.

static void line(const char *name, long v) { printf("%s %ld\n", name, v); }

// attributes prints what a process inherits.
static int attributes(void) {
	struct sched_param p;
	cpu_set_t cpus;
	sigset_t blocked;
	int n = -1;
	mode_t m = umask(0);
	umask(m);
	line("umask", m);
	line("nice", getpriority(PRIO_PROCESS, 0));
	line("policy", sched_getscheduler(0));
	sched_getparam(0, &p);
	sched_getaffinity(0, sizeof cpus, &cpus);
	line("cpus", CPU_COUNT(&cpus));
	line("timerslack", prctl(PR_GET_TIMERSLACK));
	line("personality", personality(0xffffffff));
	prctl(PR_GET_PDEATHSIG, &n);
	line("pdeathsig", n);
	line("dumpable", prctl(PR_GET_DUMPABLE));
	prctl(PR_GET_CHILD_SUBREAPER, &n);
	line("subreaper", n);
	line("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	line("securebits", prctl(PR_GET_SECUREBITS));
	line("keepcaps", prctl(PR_GET_KEEPCAPS));
	line("thp_disable", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
	line("groups", getgroups(0, 0));
	line("sid", getsid(0));
	line("pgrp", getpgrp());
	line("tty", open("/dev/tty", O_RDWR | O_NOCTTY) < 0 ? -errno : 0);
	sigprocmask(SIG_BLOCK, 0, &blocked);
	for (int s = 1; s < 65; s++) {
		struct sigaction a;
		if (sigaction(s, 0, &a) == 0 && a.sa_handler == SIG_IGN) line("ignored", s);
		if (sigismember(&blocked, s)) line("blocked", s);
	}
	for (int r = 0; r < 16; r++) {
		struct rlimit l;
		getrlimit(r, &l);
		printf("rlimit%d %ld %ld\n", r, (long)l.rlim_cur, (long)l.rlim_max);
	}
	for (int f = 0; f < 1024; f++)
		if (fcntl(f, F_GETFD) >= 0) line("fd", f);
	printf("cwd %s\n", getcwd((char[4096]){0}, 4096));
	return 0;
}
// odd COMMAND…: gives itself odd attributes, then executes the command.
static int odd(void) {
	static const int limits[][2] = {{RLIMIT_CORE, 1 << 20}, {RLIMIT_STACK, 4 << 20}, {RLIMIT_NOFILE, 512}, {RLIMIT_MEMLOCK, 4096}, {RLIMIT_AS, 0}};
	cpu_set_t one;
	sigset_t s;
	gid_t groups[] = {60002, 60003};
	char text[8];
	umask(077);
	setpriority(PRIO_PROCESS, 0, 5);
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	sched_setaffinity(0, sizeof one, &one);
	struct sched_param p = {0};
	sched_setscheduler(0, SCHED_BATCH, &p);
	for (int i = 0; limits[i][1]; i++) {
		struct rlimit l;
		getrlimit(limits[i][0], &l);
		l.rlim_cur = limits[i][1];
		if (l.rlim_cur > l.rlim_max) l.rlim_cur = l.rlim_max;
		setrlimit(limits[i][0], &l);
	}
	int f = open("/proc/self/oom_score_adj", O_WRONLY);
	if (f < 0 || write(f, "500", 3) != 3) return -1;
	close(f);
	prctl(PR_SET_TIMERSLACK, 123456);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	personality(ADDR_NO_RANDOMIZE);
	setgroups(2, groups); // root's only
	setsid();
	int pt = open("/dev/ptmx", O_RDWR), n = 0;
	ioctl(pt, TIOCSPTLCK, &n);
	ioctl(pt, TIOCGPTN, &n);
	snprintf(text, sizeof text, "%d", n);
	chdir("/dev/pts");
	if (open(text, O_RDWR) < 0) return -1; // becomes the controlling terminal
	chdir("/usr");
	dup2(pt, 700);
	dup2(open("/", O_RDONLY | O_DIRECTORY), 701);
	dup2(open("/", O_PATH), 702);
	for (n = 0; n < 4; n++) signal((int[]){SIGHUP, SIGPIPE, SIGUSR1, SIGRTMAX}[n], SIG_IGN);
	sigemptyset(&s);
	sigaddset(&s, SIGUSR2);
	sigaddset(&s, SIGTERM);
	sigprocmask(SIG_BLOCK, &s, 0);
	syscall(SYS_keyctl, 1 /* JOIN_SESSION_KEYRING */, 0);
	syscall(SYS_add_key, "user", "embedder", "secret", 6, -3);
	setenv("ODD_SECRET", "1", 1);
	return execvp(arg[0], arg);
}
// ids prints uid, euid and the effective and permitted capabilities.
static int ids(void) {
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2];
	syscall(SYS_capget, &h, d);
	printf("%d %d %08x%08x %08x%08x\n", getuid(), geteuid(), d[1].effective, d[0].effective, d[1].permitted, d[0].permitted);
	return 0;
}
// clocks prints CLOCK_MONOTONIC and CLOCK_BOOTTIME in seconds.
static int clocks(void) {
	struct timespec m, b;
	clock_gettime(CLOCK_MONOTONIC, &m);
	clock_gettime(CLOCK_BOOTTIME, &b);
	printf("%ld %ld\n", (long)m.tv_sec, (long)b.tv_sec);
	return 0;
}
// daemon: forks twice into a session of its own, holding standard output open
static int daemonise(void) {
	if (fork() == 0) {
		setsid();
		if (fork() == 0) {
			for (int s = 1; s < 32; s++) signal(s, SIG_IGN);
			prctl(PR_SET_PDEATHSIG, 0);
			prctl(PR_SET_NAME, "daemon");
			pause();
		}
		_exit(0);
	}
	wait(0);
	return 0;
}
static int hold(void) { return puts("ready"), fflush(stdout), pause(); }

static const struct { const char *name; int (*f)(void); } all[] = {
	{"mount", mount_fs}, {"bind", mount_bind}, {"remount", remount_rw}, {"shared", make_shared}, {"umount", umount_it},
	{"fsopen", fs_open}, {"open_tree", tree_clone}, {"mount_setattr", set_attr}, {"pivot_root", pivot_only},
	{"chroot_out", chroot_out}, {"unshare", unshare_it}, {"clone3", clone3_it}, {"setns", setns_it}, {"mknod", mknod_it},
	{"open_w", open_w}, {"open_r", open_r}, {"create", create}, {"empty", empty}, {"sethostname", host_name},
	{"setdomainname", domain_name}, {"raw", raw_socket}, {"packet", packet_socket}, {"settime", set_time}, {"ptrace", ptrace_it},
	{"readmem", read_memory}, {"pidfd_getfd", pidfd_get}, {"signal", signal_it}, {"kill_all", kill_all}, {"fifo", fifo_sched},
	{"nice", nice_up}, {"oom", oom_less}, {"core", raise_core}, {"handle", by_handle}, {"chown", chown_it}, {"setuid", set_uid},
	{"add_key", add_key}, {"read_key", read_key}, {"listen", abstract_listen}, {"connect", abstract_connect},
	{"socket_alg", alg_socket}, {"pdeathsig", no_pdeathsig}, {"cwd", working_dir}, {"setlease", set_lease},
	{"attributes", attributes}, {"odd", odd}, {"ids", ids}, {"clocks", clocks}, {"daemon", daemonise}, {"hold", hold}, {0},
};

int main(int argc, char **argv) {
	static char *none[8];
	arg = argc > 2 ? argv + 2 : none;
	for (int i = 0; argc > 1 && all[i].name; i++) {
		if (strcmp(all[i].name, argv[1])) continue;
		errno = 0;
		int r = all[i].f();
		puts(r < 0 ? strerrorname_np(errno) : "ok");
		return 0;
	}
	fprintf(stderr, "usage: attempt NAME [ARG...]\n");
	return 2;
}
