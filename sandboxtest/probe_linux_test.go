package sandboxtest_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
	"github.com/seed-5a9fb6e0/sandbox/rootfs"
	"github.com/seed-5a9fb6e0/sandbox/sandboxtest"
)

// unixServer listens at a path a while after its start.
const unixServer = `
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(int argc, char **argv) {
	struct sockaddr_un a = {AF_UNIX};
	strcpy(a.sun_path, argv[1]);
	usleep(30000);
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	if (bind(s, (void *)&a, sizeof a) || listen(s, 5)) return 1;
	for (;;) close(accept(s, 0, 0));
}`

// Each probe fails until what it waits for is there, and then succeeds. A program of the host's at the same place doesn't count.
func TestProbes(t *testing.T) {
	program := testenv.C(t, unixServer)
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		st, serve := store(t), read(t, program)
		tests := map[string]struct {
			c sandbox.Cmd
			p sandboxtest.Probe
		}{
			"tcp":      {sh("sleep 0.05; exec busybox nc -ll -p 80 -e true"), sandboxtest.Listening("tcp", ":80")},
			"unix":     {sandbox.Cmd{Args: []string{"/tmp/serve", "/tmp/sock"}}, sandboxtest.Listening("unix", "/tmp/sock")},
			"http":     {sh("sleep 0.05; cd /tmp; echo hi >index.html; exec busybox httpd -f -p 8080"), sandboxtest.HTTP("http://localhost:8080/")},
			"redirect": {sh("mkdir -p /tmp/www/dir; exec busybox httpd -f -p 80 -h /tmp/www"), sandboxtest.HTTP("http://127.0.0.1/dir")},
			"line":     {sh("printf 'not rea'; sleep 0.05; printf 'dy\nrea'; sleep 0.05; printf 'dy\r\n'; exec sleep 1000"), sandboxtest.Line("^ready$")},
			"stderr":   {sh("echo booting; sleep 0.05; echo listening on 80 >&2; exec sleep 1000"), sandboxtest.Line(`listening on \d+`)},
			"file":     {sh("sleep 0.05; ln -s /tmp/target /tmp/link; touch /tmp/target; exec sleep 1000"), sandboxtest.File("/tmp/link")},
			"exec":     {sh("sleep 0.05; touch /tmp/up; exec sleep 1000"), sandboxtest.Exec(sandbox.Command("test", "-e", "/tmp/up"))},
		}
		for name, tt := range tests {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				tt.c.Init = true
				sb := sandboxtest.New(t, sandbox.Options{Store: st, Mounts: []rootfs.Mount{{Type: rootfs.File, Target: "/tmp/serve", Data: serve, Mode: 0o755}}})
				began := time.Now()
				p := sandboxtest.Start(t, sb, &tt.c, tt.p)
				if name != "redirect" {
					require.Greater(t, time.Since(began), 30*time.Millisecond, "it was not ready before")
				}
				select {
				case <-p.Done():
					t.Error("it has ended")
				default:
				}
			})
		}
	})
}

func read(t testing.TB, name string) []byte {
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	return b
}

// What never gets ready is told with what the probe said last and what the command wrote.
func TestProbeFailures(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		st := store(t)
		const up = "echo started; "
		tests := map[string]struct {
			c    sandbox.Cmd
			p    sandboxtest.Probe
			says []string
		}{
			"tcp":    {sh(up + "exec sleep 1000"), sandboxtest.Listening("tcp", "127.0.0.1:80"), []string{`Listening("tcp", "127.0.0.1:80"): `, "connection refused"}},
			"unix":   {sh(up + "exec sleep 1000"), sandboxtest.Listening("unix", "/tmp/s"), []string{`Listening("unix", "/tmp/s"): `, "no such file"}},
			"name":   {sh(up + "exec sleep 1000"), sandboxtest.Listening("tcp", "example.com:80"), []string{"example.com"}},
			"http":   {sh(up + "exec sleep 1000"), sandboxtest.HTTP("http://localhost:80/x"), []string{`HTTP("http://localhost:80/x"): `, "connection refused"}},
			"status": {sh(up + "exec busybox httpd -f -p 80 -h /tmp"), sandboxtest.HTTP("http://localhost/x"), []string{"404 Not Found"}},
			"mute":   {sh(up + "exec busybox nc -ll -p 80 -e sleep 1000"), sandboxtest.HTTP("http://localhost/"), []string{"no answer within 1s"}},
			"line":   {sh(up + "printf unfinished; exec sleep 1000"), sandboxtest.Line("unfinished"), []string{`Line("unfinished"): no such line`, "| unfinished"}},
			"file":   {sh(up + "exec sleep 1000"), sandboxtest.File("/tmp/x"), []string{`File("/tmp/x"): `, "no such file"}},
			"exec":   {sh(up + "exec sleep 1000"), sandboxtest.Exec(ptr(sh("echo not yet >&2; exit 5"))), []string{`Exec(["sh" `, "exit status 5, output:", "| not yet"}},
			"hang":   {sh(up + "exec sleep 1000"), sandboxtest.Exec(sandbox.Command("sleep", "1000")), []string{`Exec(["sleep" "1000"]): `, "no output"}},
			"func":   {sh(up + "exec sleep 1000"), sandboxtest.Func(func(context.Context) error { return errors.New("migrating") }), []string{"Func: migrating"}},
		}
		for name, tt := range tests {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				tt.c.Init = true
				limit := 150 * time.Millisecond
				if name == "mute" {
					limit = 1100 * time.Millisecond // longer than an attempt
				}
				sb := sandboxtest.New(t, sandbox.Options{Store: st})
				want := append(tt.says, "not ready: ", "context deadline exceeded", "| started")
				for ; ; limit *= 4 { // a busy machine needs more
					r := recording{limit: limit}.run(t, func(t testing.TB) {
						sandboxtest.Start(t, sb, &tt.c, tt.p)
						t.Fatal("it is ready")
					})
					require.True(t, r.failed)
					require.LessOrEqual(t, strings.Count(r.log(), "| started"), 1, r.log())
					if limit > 5*time.Second || containsAll(r.log(), want) {
						require.True(t, containsAll(r.log(), want), "%q in %s", want, r.log())
						return
					}
				}
			})
		}
	})
}

func containsAll(s string, all []string) bool {
	return !slices.ContainsFunc(all, func(want string) bool { return !strings.Contains(s, want) })
}

func ptr(c sandbox.Cmd) *sandbox.Cmd { return &c }

// What can't succeed is no reason to wait: neither a Probe of bad arguments, before anything is started, nor one that asks for
// what the sandbox hasn't.
func TestProbeHopeless(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := sandboxtest.New(t, sandbox.Options{Store: store(t), Clock: &sandbox.Clock{Boottime: time.Hour}})
		for _, tt := range []struct {
			p      sandboxtest.Probe
			says   string
			starts bool
		}{
			{p: sandboxtest.Line("(x"), says: "Line(\"(x\"): error parsing regexp: missing closing ): `(x`"},
			{p: sandboxtest.Listening("udp", ":53"), says: `Listening("udp", ":53"): unknown network udp`},
			{p: sandboxtest.Listening("tcp", "80"), says: "missing port"},
			{p: sandboxtest.Listening("unix", ""), says: "no address"},
			{p: sandboxtest.HTTP("localhost:80"), says: "not of the form http://host:port/path"},
			{p: sandboxtest.HTTP("http://[::1"), says: "missing ']'"},
			{p: sandboxtest.Exec(nil), says: "no Cmd"},
			{p: sandboxtest.Func(nil), says: "no function"},
			{says: "the zero Probe"},
			{p: sandboxtest.Exec(sandbox.Command("true")), says: "Clock", starts: true},
			{p: sandboxtest.Exec(&sandbox.Cmd{Args: []string{"true"}, Init: true}), says: "Cmd.Init", starts: true},
		} {
			c := sh("touch /tmp/started; exec sleep 1000")
			c.Init = true
			r := recording{limit: 2 * time.Second}.run(t, func(t testing.TB) { sandboxtest.Start(t, sb, &c, tt.p) })
			require.True(t, r.failed, tt.says)
			require.Contains(t, r.log(), tt.says)
			require.NotContains(t, r.log(), "deadline", "%s: at once", tt.says)
			if !tt.starts {
				require.NoError(t, exited(t, sb, sandbox.Command("test", "!", "-e", "/tmp/started")), tt.says)
			}
		}
	})
}

func exited(t testing.TB, sb *sandbox.Sandbox, c *sandbox.Cmd) error {
	res, err := sb.Run(t.Context(), c)
	require.NoError(t, err)
	return res.Err()
}

// Attempts leave no connection while the command lives on; leaks would see only those that outlive it.
func TestProbeLeavesNothing(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := sandboxtest.New(t, sandbox.Options{Store: store(t)})
		l, err := sb.Listen(t.Context(), "tcp", ":80")
		require.NoError(t, err)
		tries := 0
		server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if tries++; tries < 3 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})} // which keeps its connections for the next request
		go func() { _ = server.Serve(l) }() // ends with Close
		defer server.Close()
		c := sh("exec sleep 1000")
		c.Init = true
		sandboxtest.Start(t, sb, &c, sandboxtest.HTTP("http://localhost/"), sandboxtest.Listening("tcp", ":80"))
		require.Equal(t, 3, tries)
		require.Eventually(t, func() bool { return len(connections(t)) == 1 }, time.Second, 10*time.Millisecond, "more than the listener is open")
	})
}

// connections are this process's descriptors of sockets of a network.
func connections(t testing.TB) (found []int) {
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		require.NoError(t, err)
		domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err == nil && (domain == unix.AF_INET || domain == unix.AF_INET6) {
			found = append(found, fd)
		}
	}
	return found
}
