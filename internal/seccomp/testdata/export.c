// Writes the filter that libseccomp makes of the rules on stdin, in words:
//   DEFAULT-ACTION NARCHS ARCH… and then per rule: ACTION NUMBER-OF-CONDITIONS NAME, per condition INDEX OP VALUE VALUE2
// A rule for a call that it has no name for is left out, and so is one that is the default.
#include <errno.h>
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void check(int r, const char *what) {
	if (r < 0) {
		fprintf(stderr, "%s: %s\n", what, strerror(-r));
		exit(1);
	}
}

int main(void) {
	uint32_t other, arch, action;
	int archs, n;
	if (scanf("%" SCNu32 " %d", &other, &archs) != 2) return 2;
	scmp_filter_ctx ctx = seccomp_init(other);
	check(seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS), "bad arch");
	check(seccomp_arch_remove(ctx, SCMP_ARCH_NATIVE), "remove native");
	while (archs-- > 0) {
		if (scanf("%" SCNu32, &arch) != 1) return 2;
		check(seccomp_arch_add(ctx, arch), "arch");
	}
	char name[64];
	while (scanf("%" SCNu32 " %d %63s", &action, &n, name) == 3) {
		struct scmp_arg_cmp c[6];
		for (int i = 0; i < n; i++) {
			int op;
			if (scanf("%u %d %" SCNu64 " %" SCNu64, &c[i].arg, &op, &c[i].datum_a, &c[i].datum_b) != 4) return 2;
			c[i].op = op;
		}
		int nr = seccomp_syscall_resolve_name(name);
		if (nr == __NR_SCMP_ERROR || action == other) continue;
		check(seccomp_rule_add_array(ctx, action, nr, n, c), name);
	}
	check(seccomp_export_bpf(ctx, STDOUT_FILENO), "export");
	return 0;
}
