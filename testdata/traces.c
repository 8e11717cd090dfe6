/*
 * Every way in which one command can leave something to another: "traces leave" does, says so, and stays; "traces look" prints
 * what it finds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define KEY 4711
#define USER_KEYRING (-4) /* KEY_SPEC_USER_KEYRING */
#define SEARCH 10         /* KEYCTL_SEARCH */

static int leaves;

/* Each returns whether it could leave something, or found it. */

static int in_file(const char *path)
{
	return leaves ? open(path, O_CREAT | O_WRONLY, 0600) >= 0 : access(path, F_OK) == 0;
}

static int root_file(void) { return in_file("/trace"); }

static int tmp_file(void)
{
	mkdir("/tmp", 0777);
	return in_file("/tmp/trace");
}

static int shm_file(void) { return in_file("/dev/shm/trace"); }

static int queue(void) { return mq_open("/trace", leaves ? O_CREAT | O_RDWR : O_RDWR, 0600, NULL) >= 0; }

static int sysv_memory(void) { return shmget(KEY, 4096, leaves ? IPC_CREAT | 0600 : 0) >= 0; }

static int sysv_semaphore(void) { return semget(KEY, 1, leaves ? IPC_CREAT | 0600 : 0) >= 0; }

static int sysv_queue(void) { return msgget(KEY, leaves ? IPC_CREAT | 0600 : 0) >= 0; }

static int abstract_socket(void)
{
	struct sockaddr_un a = { AF_UNIX, "\0trace" };
	socklen_t size = offsetof(struct sockaddr_un, sun_path) + 6;
	int s = socket(AF_UNIX, SOCK_STREAM, 0);

	if (leaves)
		return bind(s, (struct sockaddr *)&a, size) == 0 && listen(s, 1) == 0;
	return connect(s, (struct sockaddr *)&a, size) == 0;
}

static int port(void)
{
	struct sockaddr_in a = { AF_INET, htons(KEY), { htonl(INADDR_LOOPBACK) }, { 0 } };
	int s = socket(AF_INET, SOCK_STREAM, 0);

	if (leaves)
		return bind(s, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(s, 1) == 0;
	return connect(s, (struct sockaddr *)&a, sizeof(a)) == 0;
}

static int key(void)
{
	if (leaves)
		return syscall(SYS_add_key, "user", "trace", "x", 1, USER_KEYRING) >= 0;
	return syscall(SYS_keyctl, SEARCH, USER_KEYRING, "user", "trace", 0) >= 0;
}

static int process(void)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	char path[300], line[300];

	while (!leaves && d && (e = readdir(d))) {
		ssize_t n;
		int fd;
		if (atoi(e->d_name) == 0 || atoi(e->d_name) == getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/%s/cmdline", e->d_name);
		fd = open(path, O_RDONLY);
		n = read(fd, line, sizeof(line) - 1);
		close(fd);
		if (n > 0 && memmem(line, n, "leave", 5))
			return 1;
	}
	return leaves;
}

int main(int argc, char **argv)
{
	struct {
		const char *name;
		int (*check)(void);
	} all[] = {
		{ "root", root_file }, { "tmp", tmp_file }, { "shm", shm_file }, { "mqueue", queue },
		{ "shmget", sysv_memory }, { "semget", sysv_semaphore }, { "msgget", sysv_queue },
		{ "abstract", abstract_socket }, { "port", port }, { "key", key }, { "process", process },
	};

	leaves = argc > 1 && strcmp(argv[1], "leave") == 0;
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i].check())
			printf("%s ", all[i].name);
	printf(".\n");
	fflush(stdout);
	while (leaves)
		pause();
	return 0;
}
