//go:build linux

package sandbox_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

const printIDs = `
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(void) {
	gid_t g[100];
	int n = getgroups(100, g);
	printf("%d %d %d %d", getuid(), geteuid(), getgid(), getegid());
	for (int i = 0; i < n; i++) printf(" %d", g[i]);
	printf(" %s %s\n", getenv("HOME"), getenv("USER"));
	return 0;
}`

const (
	passwdFile = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/var/www:\n#c\nbad:x:y:z:::\nshort:x:7\n1000:x:50:50::/named-1000:\nsame:x:0:0::/same:\nfar:x:9:0::/:\nhuge:x:4294967295:0::/:\nout:x:70000:0::/:\n"
	groupFile  = "root:x:0:\nwww:x:34:\naudio:x:29:web,other\nvideo:x:44:other,web,web\nprimary:x:34:web\nbroken:x:q:web\n60:x:61:\nfar:x:70000:far\n"
)

// usersRoot is a Rootfs with these accounts.
func usersRoot(t testing.TB, program string) string {
	root := rootWith(t, map[string]string{"ids": program})
	require.NoError(t, os.Mkdir(filepath.Join(root, "etc"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, "etc/passwd"), []byte(passwdFile), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(root, "etc/group"), []byte(groupFile), 0o644))
	return root
}

// A user is a name or a number, with or without a group, by the sandbox's own files.
func TestUser(t *testing.T) {
	program := testenv.C(t, printIDs)
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		root, st := usersRoot(t, program), store(t)
		sb := box(t, sandbox.Options{Store: st, Rootfs: root})
		for user, want := range map[string]string{
			"":            "0 0 0 0 /root root",
			"root":        "0 0 0 0 /root root",
			"0":           "0 0 0 0 /root root",
			"same":        "0 0 0 0 /same same",
			"web":         "33 33 34 34 29 44 /var/www web",
			"33":          "33 33 34 34 29 44 /var/www web",
			"web:www":     "33 33 34 34 /var/www web",
			"web:29":      "33 33 29 29 /var/www web",
			"33:audio":    "33 33 29 29 /var/www web",
			"500":         "500 500 0 0 / 500",
			"500:600":     "500 500 600 600 / 500",
			"1000":        "50 50 50 50 /named-1000 1000", // a name of digits goes before a number
			"0:60":        "0 0 61 61 /root root",
			"nobody-here": "!no such user", "web:nogroup": "!no such group", "bad": "!has no number", "huge": "!has no number",
			"far": "!not mapped", "-1": "!no such user", "4294967294": "!not mapped", "4294967295": "!has no number", "99999999999": "!no such user", "short": "!no such user", "#c": "!no such user",
			"out": "!not mapped", "70000": "!not mapped", "web:70000": "!not mapped", "web:far": "!not mapped", "web:4294967295": "!no such group",
		} {
			out, err := sb.Output(t.Context(), &sandbox.Cmd{Args: []string{"/bin/ids"}, User: user})
			if text, bad := strings.CutPrefix(want, "!"); bad {
				require.ErrorContains(t, err, text, "%q", user)
				continue
			}
			if os.Geteuid() != 0 && !strings.HasPrefix(want, "0 0 0 0") { // he has one id
				require.ErrorIs(t, err, errors.ErrUnsupported, "%q", user)
				require.ErrorContains(t, err, "newuidmap", "the remedy")
				continue
			}
			require.NoError(t, err, "%q", user)
			require.Equal(t, want+"\n", string(out), "%q", user)
		}
		// The fault names the field that the user came from.
		_, err := sb.Run(t.Context(), &sandbox.Cmd{Args: []string{"/bin/ids"}, User: "nobody-here"})
		requireFields(t, err, "Cmd.User")
		_, err = box(t, sandbox.Options{Store: st, Rootfs: root, User: "nobody-here"}).Run(t.Context(), sandbox.Command("/bin/ids"))
		requireFields(t, err, "Options.User")
	})
}

// The single id of an ordinary user can be given the number that a program wants.
func TestUserOfOneID(t *testing.T) {
	program := testenv.C(t, printIDs)
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{Rootfs: usersRoot(t, program), User: "33:34"})
		out, err := sb.Output(t.Context(), sandbox.Command("/bin/ids"))
		require.NoError(t, err)
		require.Equal(t, "33 33 34 34 /var/www web\n", string(out))
		_, err = sb.Output(t.Context(), &sandbox.Cmd{Args: []string{"/bin/ids"}, User: "0"})
		require.Equal(t, os.Geteuid() == 0, err == nil, "%v", err)
	})
}

// Subordinate ids give an ordinary user all of them.
func TestUserWithSubordinateIDs(t *testing.T) {
	program := testenv.C(t, printIDs)
	if testenv.AsSubIDUser(t) {
		return
	}
	leaks(t)
	sb := box(t, sandbox.Options{Rootfs: usersRoot(t, program)})
	for user, want := range map[string]string{"": "0 0 0 0 /root root", "web": "33 33 34 34 29 44 /var/www web", "500:600": "500 500 600 600 / 500"} {
		out, err := sb.Output(t.Context(), &sandbox.Cmd{Args: []string{"/bin/ids"}, User: user})
		require.NoError(t, err)
		require.Equal(t, want+"\n", string(out))
	}
}

// Whatever a command makes of its /etc/passwd: no call blocks, reads without bound, or reads a file of the host's.
func TestHostileAccounts(t *testing.T) {
	program := testenv.C(t, hostileAccounts)
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		root, st := rootWith(t, map[string]string{"evil": program}), store(t)
		require.NoError(t, os.Mkdir(filepath.Join(root, "etc"), 0o755))
		require.NoError(t, os.Symlink("evil", filepath.Join(root, "bin/true")))
		host := filepath.Join(t.TempDir(), "passwd") // of the host; it knows a user whom the sandbox does not
		require.NoError(t, os.WriteFile(host, []byte("hosts:x:0:0::/:\n"), 0o644))
		for how, want := range map[string]string{
			"fifo": "not a regular file", "dir": "not a regular file", "null": "leads out", "zero": "leads out",
			"socket": "openat2", "loop": "too many levels of symbolic links",
			"big": "longer than 1 MiB", "sparse": "longer than 1 MiB", "line": "no such user",
			"host": "no such user", "proc": "leads out", "up": "no such user", "unreadable": "no such user|permission denied",
		} {
			for _, file := range []string{"passwd", "group"} {
				sb := sandbox.New(sandbox.Options{Store: st, Rootfs: root})
				mustExit(t, sb, sandbox.Command("/bin/evil", how, "/etc/"+file, host))
				began := time.Now()
				res, err := sb.Run(t.Context(), &sandbox.Cmd{Args: []string{"/bin/true"}, User: "hosts"})
				require.Nil(t, res, how)
				took := time.Since(began)
				require.NoError(t, sb.Close())
				require.Regexp(t, want, err, "%s %s", how, file)
				require.Less(t, took, 5*time.Second)
			}
		}
		// The control: in its own root the name is found.
		require.NoError(t, os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("hosts:x:0:0::/:\n"), 0o644))
		mustExit(t, box(t, sandbox.Options{Store: st, Rootfs: root}), &sandbox.Cmd{Args: []string{"/bin/true"}, User: "hosts"})
	})
}

const hostileAccounts = `
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#define MUST(x) if ((x) < 0) { perror(#x); return 1; }
int main(int argc, char **argv) {
	if (argc < 4) return 0;
	const char *how = argv[1], *f = argv[2];
	unlink(f);
	if (!strcmp(how, "fifo")) MUST(mkfifo(f, 0666));
	if (!strcmp(how, "dir")) MUST(mkdir(f, 0777));
	if (!strcmp(how, "null")) MUST(symlink("/dev/null", f));
	if (!strcmp(how, "zero")) MUST(symlink("/dev/zero", f));
	if (!strcmp(how, "loop")) MUST(symlink(f, f));
	if (!strcmp(how, "host")) MUST(symlink(argv[3], f));
	if (!strcmp(how, "proc")) {
		char b[200];
		snprintf(b, sizeof b, "/proc/1/root%s", argv[3]);
		MUST(symlink(b, f));
	}
	if (!strcmp(how, "up")) {
		char b[400] = "../../../../../../../../../../../..";
		strcat(b, argv[3]);
		MUST(symlink(b, f));
	}
	if (!strcmp(how, "socket")) {
		struct sockaddr_un a = {AF_UNIX};
		strcpy(a.sun_path, f);
		MUST(bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&a, sizeof a));
	}
	int n = !strcmp(how, "big") ? 101 << 20 : !strcmp(how, "line") ? 1 << 20 : 0;
	if (n) {
		int fd = open(f, O_WRONLY | O_CREAT, 0666);
		char *b = malloc(n);
		memset(b, 'h', n);
		MUST(write(fd, b, n));
	}
	if (!strcmp(how, "sparse")) { MUST(truncate((close(creat(f, 0666)), f), 1L << 40)); }
	if (!strcmp(how, "unreadable")) { close(creat(f, 0)); }
	return 0;
}`

// A read-only root's accounts are read once; a fault in them is told each time.
func TestAccountsOfReadOnlyRoot(t *testing.T) {
	program := testenv.C(t, printIDs)
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		root := usersRoot(t, program)
		passwd := filepath.Join(root, "etc/passwd")
		require.NoError(t, os.WriteFile(passwd, bytes.Repeat([]byte("root:x:0:0::/:\n"), 100_000), 0o644))
		sb := box(t, sandbox.Options{Rootfs: root, ReadOnly: true})
		for range 3 {
			_, err := sb.Output(t.Context(), sandbox.Command("/bin/ids"))
			require.ErrorContains(t, err, "longer than 1 MiB")
		}
	})
}

// Whoever a command is, it can open its own streams by their names, as many an image's log files do.
func TestStreamsByName(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		for _, user := range []string{"", "1234"} {
			if user != "" && os.Geteuid() != 0 {
				continue // has no other id
			}
			c := sh("cat /dev/stdin; echo out >/dev/stdout; echo err >/dev/stderr; umask")
			var out, errs bytes.Buffer
			c.User, c.Stdin, c.Stdout, c.Stderr = user, strings.NewReader("in\n"), &out, &errs
			mustExit(t, sb, c)
			require.Equal(t, "in\nout\n0022\nerr\n", out.String()+errs.String())
		}
	})
}

// Lines of any length and content are parsed, or left out.
func FuzzAccounts(f *testing.F) {
	f.Add([]byte(passwdFile), "web")
	f.Add([]byte(groupFile), "34")
	f.Add([]byte(strings.Repeat("x", 100_000)+"\nweb:x:1:2:::"), "web")
	f.Add([]byte(":::\n::::::\r\n\x00"), "")
	f.Fuzz(func(t *testing.T, file []byte, key string) {
		for _, n := range []int{4, 7} {
			if row := sandbox.Find(file, key, n); row != nil && (len(row) != n || row[0] != key && row[2] != key) {
				t.Fatalf("%q is not the row of %q", row, key)
			}
		}
		for _, gid := range sandbox.MemberOf(file, key, 34) {
			if gid < 0 || gid >= 1<<32-1 || gid == 34 {
				t.Fatalf("group %d", gid)
			}
		}
		if gid, err := sandbox.GroupID(file, key); err == nil && (gid < 0 || gid >= 1<<32-1) {
			t.Fatalf("group %d", gid)
		}
	})
}

// A line that is longer than any buffer hides none of those after it.
func TestLongLine(t *testing.T) {
	long := "a:x:1:" + strings.Repeat("m,", 200_000) + "web\n"
	require.Equal(t, []int{1, 2}, sandbox.MemberOf([]byte(long+"b:x:2:web\n"), "web", 0))
	require.Equal(t, "2", sandbox.Find([]byte(long+"b:x:2:web\n"), "b", 4)[2])
	var many strings.Builder
	for i := range 70_000 {
		fmt.Fprintf(&many, "g%d:x:%s:web\n", i, strconv.Itoa(i+1))
	}
	require.Len(t, sandbox.MemberOf([]byte(many.String()), "web", 0), 65536)
}

// The host's root is nobody in a sandbox over his userland, as root of the host too: what only he may read below /usr, root of
// the sandbox may not.
func TestHostRootIsNobody(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		out, err := box(t, sandbox.Options{}).Output(t.Context(), sh("stat -L -c %u:%g /usr /usr/bin/env /bin/sh"))
		require.NoError(t, err)
		require.Equal(t, "65534:65534\n65534:65534\n65534:65534\n", string(out))
	})
}
