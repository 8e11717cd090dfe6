//go:build linux

package sandbox_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
	"github.com/seed-5a9fb6e0/sandbox/netns"
)

// server answers each connection or packet with "echo " and what it got, at
// the addresses in its arguments: FAMILY TYPE ADDRESS PORT.
const server = `
import socket, sys, threading
def serve(family, kind, host, port):
    s = socket.socket(getattr(socket, family), getattr(socket, kind))
    s.bind(host.replace("@", "\0") if family == "AF_UNIX" else (host, int(port)))
    if kind == "SOCK_STREAM": s.listen()
    def loop():
        while True:
            if kind == "SOCK_DGRAM":
                data, peer = s.recvfrom(100)
                s.sendto(b"echo " + data, peer)
                continue
            c, _ = s.accept()
            c.sendall(b"echo " + c.recv(100))
            c.close()
    threading.Thread(target=loop).start()
for i in range(1, len(sys.argv), 4): serve(*sys.argv[i:i+4])
print("ready", flush=True)
`

// background starts a command and waits for its first line. The command ends with the test.
func background(t *testing.T, sb *sandbox.Sandbox, c *sandbox.Cmd) *sandbox.Process {
	t.Helper()
	c.Pipes = sandbox.PipeStdout
	c.Stderr = os.Stderr
	p, err := sb.Start(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = p.Kill()
		_, _ = p.Wait(context.Background())
		p.Stdout.Close()
	})
	line, err := bufio.NewReader(p.Stdout).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	return p
}

// talk sends a word over a connection, which it closes, and returns the answer.
func talk(t *testing.T, c net.Conn) string {
	t.Helper()
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	_, err := io.WriteString(c, "hello")
	require.NoError(t, err)
	buf := make([]byte, 100)
	n, err := c.Read(buf)
	require.NoError(t, err)
	return string(buf[:n])
}

// Servers in a sandbox without a network are reached, over each kind of socket.
func TestDial(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		background(t, sb, sandbox.Command("python3", "-c", server,
			"AF_INET", "SOCK_STREAM", "0.0.0.0", "80", "AF_INET6", "SOCK_STREAM", "::1", "81",
			"AF_INET", "SOCK_DGRAM", "127.0.0.1", "53", "AF_INET6", "SOCK_DGRAM", "::1", "54",
			"AF_UNIX", "SOCK_STREAM", "/tmp/s", "0", "AF_UNIX", "SOCK_STREAM", "@abstract", "0"))
		mustExit(t, sb, sh("mkdir /tmp/d && ln -s /tmp/s /tmp/d/link && ln -s d /tmp/dir"))
		for _, tt := range [][2]string{
			{"tcp", "127.0.0.1:80"}, {"tcp4", "localhost:80"}, {"tcp", "localhost:80"}, {"tcp", ":80"}, {"tcp4", "127.3.2.1:80"},
			{"tcp", "[::1]:81"}, {"tcp6", "localhost:81"}, {"tcp", "localhost:81"}, {"tcp", "[::ffff:127.0.0.1]:80"},
			{"udp", "127.0.0.1:53"}, {"udp4", ":53"}, {"udp6", "[::1]:54"},
			{"unix", "/tmp/s"}, {"unix", "tmp/s"}, {"unix", "/tmp/d/../s"}, {"unix", "/tmp/d/link"}, {"unix", "/tmp/dir/link"}, {"unix", "/../../tmp/s"},
			{"unix", "@abstract"},
		} {
			c, err := sb.Dial(t.Context(), tt[0], tt[1])
			require.NoError(t, err, "%v", tt)
			require.Equal(t, "echo hello", talk(t, c), "%v", tt)
		}
		for range 500 { // no wake-up of the poller is lost
			c, err := sb.Dial(t.Context(), "tcp", "127.0.0.1:80")
			require.NoError(t, err)
			require.NoError(t, c.Close())
		}
		// Nobody outside is there, and nothing of the sandbox's is outside.
		for _, port := range []string{"80", "81"} {
			c, err := net.Dial("tcp", "localhost:"+port)
			if err == nil {
				require.NoError(t, c.SetDeadline(time.Now().Add(time.Second)))
				_, _ = io.WriteString(c, "hello")
				answer, _ := io.ReadAll(c)
				c.Close()
				require.NotContains(t, string(answer), "echo hello")
			}
		}
		_, err := net.Dial("unix", "@abstract")
		require.Error(t, err)
	})
}

// Where nobody listens the answer is ECONNREFUSED, at once.
func TestDialRefused(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		mustExit(t, sb, sandbox.Command("python3", "-c", `import socket; socket.socket(socket.AF_UNIX).bind("/tmp/dead"); open("/tmp/file", "w")`))
		for _, tt := range []struct {
			network, addr string
			want          error
		}{
			{"tcp", "localhost:1", unix.ECONNREFUSED}, {"tcp4", "127.0.0.1:1", unix.ECONNREFUSED}, {"tcp6", "[::1]:1", unix.ECONNREFUSED},
			{"unix", "/tmp/dead", unix.ECONNREFUSED}, {"unix", "@nobody", unix.ECONNREFUSED}, {"unix", "/tmp/file", unix.ECONNREFUSED},
			{"unix", "/tmp/none", fs.ErrNotExist}, {"unix", "/tmp/none/s", fs.ErrNotExist}, {"unix", "", fs.ErrNotExist},
			{"tcp", "192.0.2.1:80", unix.ENETUNREACH}, {"tcp", "[2001:db8::1]:80", unix.ENETUNREACH},
		} {
			began := time.Now()
			c, err := sb.Dial(t.Context(), tt.network, tt.addr)
			require.Nil(t, c)
			require.ErrorIs(t, err, tt.want, "%s %s", tt.network, tt.addr)
			require.Less(t, time.Since(began), 5*time.Second)
			require.NotContains(t, err.Error(), "/proc/self/fd", "the name is the sandbox's")
			var e *sandbox.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, "dial", e.Op)
		}
	})
}

// Names are nobody's but ours, and networks are those of the documentation.
func TestDialBadAddress(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		for _, tt := range []struct {
			network, addr string
			want          error
		}{
			{"tcp", "example.com:80", fs.ErrNotExist}, {"tcp", "localhost.:80", fs.ErrNotExist}, {"udp", "ip6-localhost:80", fs.ErrNotExist},
			{"tcp", "127.1:80", fs.ErrNotExist}, {"tcp", "[fe80::1%lo]:80", fs.ErrNotExist}, {"tcp4", "[::1]:80", fs.ErrNotExist}, {"tcp6", "127.0.0.1:80", fs.ErrNotExist},
			{"tcp", "localhost", fs.ErrInvalid}, {"tcp", "localhost:http", fs.ErrInvalid}, {"tcp", "localhost:65536", fs.ErrInvalid}, {"tcp", "localhost:-1", fs.ErrInvalid},
			{"tcp", "", fs.ErrInvalid}, {"unix", "@", fs.ErrInvalid},
			{"sctp", "localhost:1", net.UnknownNetworkError("sctp")}, {"", ":1", net.UnknownNetworkError("")},
			{"unixgram", "/tmp/s", net.UnknownNetworkError("unixgram")}, {"unixpacket", "/tmp/s", net.UnknownNetworkError("unixpacket")},
			{"ip4:icmp", "127.0.0.1", net.UnknownNetworkError("ip4:icmp")},
		} {
			for _, call := range []func(context.Context, string, string) error{
				func(ctx context.Context, network, addr string) error {
					_, err := sb.Dial(ctx, network, addr)
					return err
				},
				func(ctx context.Context, network, addr string) error {
					_, err := sb.Listen(ctx, network, addr)
					return err
				},
			} {
				err := call(t.Context(), tt.network, tt.addr)
				require.ErrorIs(t, err, tt.want, "%s %s", tt.network, tt.addr)
			}
		}
		_, err := sb.Listen(t.Context(), "udp", "localhost:1")
		require.ErrorIs(t, err, net.UnknownNetworkError("udp"))
	})
}

const fullBacklog = `
import socket, sys, time
name = sys.argv[1].replace("@", "\0")
s = socket.socket(socket.AF_UNIX); s.bind(name); s.listen(0)
c = socket.socket(socket.AF_UNIX); c.connect(name)
print("ready", flush=True)
time.sleep(1 if len(sys.argv) > 2 else 1000)
while True:
    a, _ = s.accept(); a.sendall(b"late"); a.close()
`

// A server that does not accept holds a caller up no longer than his context.
func TestDialDeadline(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		for _, name := range []string{"/tmp/full", "@full"} {
			background(t, sb, sandbox.Command("python3", "-c", fullBacklog, name))
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			began := time.Now()
			c, err := sb.Dial(ctx, "unix", name)
			cancel()
			require.Nil(t, c, name)
			require.ErrorIs(t, err, context.DeadlineExceeded, name)
			require.Less(t, time.Since(began), 5*time.Second)
			// Once there is room the call goes on.
			background(t, sb, sandbox.Command("python3", "-c", fullBacklog, name+"2", "for a second"))
			c, err = sb.Dial(t.Context(), "unix", name+"2")
			require.NoError(t, err, name)
			data, err := io.ReadAll(c)
			require.NoError(t, errors.Join(err, c.Close()))
			require.Equal(t, "late", string(data))
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("no more")
		cancel(cause)
		for _, addr := range [][2]string{{"tcp", ":1"}, {"unix", "@x"}} {
			_, err := sb.Dial(ctx, addr[0], addr[1])
			require.ErrorIs(t, err, cause)
		}
	})
}

// Whatever links a command makes, a path leads to no socket of the host's.
func TestDialUnixStaysInside(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		dir := t.TempDir()
		host := filepath.Join(dir, "host.sock")
		l, err := net.Listen("unix", host)
		require.NoError(t, err)
		defer l.Close()
		up := strings.Repeat("../", 20)
		links := map[string]string{"abs": host, "up": up + host[1:], "dir": dir, "root": "/", "proc": "/proc/1/root" + host, "self": "/proc/self/root" + host, "cwd": "/proc/self/cwd/" + host}
		// The control: followed from outside they lead there.
		for name, target := range links {
			link := filepath.Join(dir, name)
			require.NoError(t, os.Symlink(target, link))
			if name == "dir" || name == "root" {
				link = filepath.Join(link, map[string]string{"dir": "host.sock", "root": host}[name])
			}
			if name == "proc" || name == "cwd" {
				continue // not from here
			}
			c, err := net.Dial("unix", link)
			require.NoError(t, err, "the attack itself does not work: %s", name)
			c.Close()
		}
		sb := box(t, sandbox.Options{})
		for name, target := range links {
			mustExit(t, sb, sandbox.Command("ln", "-s", target, "/tmp/"+name))
		}
		for _, addr := range []string{host, "/tmp/abs", "/tmp/up", "/tmp/dir/host.sock", "/tmp/root" + host, "/tmp/proc", "/tmp/self", "/tmp/cwd",
			up + host[1:], "/proc/self/root" + host, "/proc/1/root" + host, "/proc/thread-self/root" + host} {
			c, err := sb.Dial(t.Context(), "unix", addr)
			require.Nil(t, c, addr)
			require.Error(t, err, addr)
			// Nor does a socket appear there.
			_, err = sb.Listen(t.Context(), "unix", filepath.Join(filepath.Dir(addr), "new"))
			if err == nil {
				_, err = os.Lstat(filepath.Join(dir, "new"))
				require.ErrorIs(t, err, fs.ErrNotExist, addr)
			}
		}
	})
}

const client = `
import socket, sys
family, host, port = sys.argv[1:4]
s = socket.socket(getattr(socket, family))
s.connect(host.replace("@", "\0") if family == "AF_UNIX" else (host, int(port)))
s.sendall(b"from inside")
sys.stdout.write(s.recv(100).decode())
`

// Commands connect to Listeners in their sandbox. Close closes those, and removes socket files.
func TestListen(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		var all []net.Listener
		for _, tt := range []struct{ network, addr, family, host string }{
			{"tcp", "127.0.0.1:0", "AF_INET", "127.0.0.1"}, {"tcp", ":0", "AF_INET", "127.0.0.1"}, {"tcp4", "0.0.0.0:0", "AF_INET", "127.0.0.5"},
			{"tcp", "[::]:0", "AF_INET6", "::1"}, {"tcp6", "[::1]:443", "AF_INET6", "::1"}, {"tcp6", "localhost:0", "AF_INET6", "::1"},
			{"unix", "/tmp/l", "AF_UNIX", "/tmp/l"}, {"unix", "/run/l", "AF_UNIX", "/run/l"}, {"unix", "@l", "AF_UNIX", "@l"},
		} {
			l, err := sb.Listen(t.Context(), tt.network, tt.addr)
			require.NoError(t, err, "%v", tt)
			all = append(all, l)
			port := "0"
			if a, ok := l.Addr().(*net.TCPAddr); ok {
				require.NotZero(t, a.Port)
				port = fmt.Sprint(a.Port)
			} else {
				require.Equal(t, tt.addr, l.Addr().String())
			}
			got := make(chan string, 2)
			go func() { // ends with the Listener
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					buf := make([]byte, 100)
					n, _ := c.Read(buf)
					_, _ = io.WriteString(c, "from outside")
					c.Close()
					got <- string(buf[:n])
				}
			}()
			for _, user := range []string{"", "1234"} {
				if user != "" && (os.Geteuid() != 0 || tt.addr != "/tmp/l") {
					continue // everybody in it may connect
				}
				out, err := sb.Output(t.Context(), &sandbox.Cmd{Args: []string{"python3", "-c", client, tt.family, tt.host, port}, User: user})
				require.NoError(t, err, "%v", tt)
				require.Equal(t, "from outside", string(out))
				require.Equal(t, "from inside", <-got)
			}
		}
		_, err := sb.Listen(t.Context(), "unix", "/tmp/l")
		require.ErrorIs(t, err, unix.EADDRINUSE)
		_, err = sb.Listen(t.Context(), "unix", "/tmp/none/l")
		require.ErrorIs(t, err, fs.ErrNotExist)
		_, err = sb.Listen(t.Context(), "unix", "/usr/l")
		require.ErrorIs(t, err, unix.EROFS)
		_, err = sb.Listen(t.Context(), "unix", "/tmp/"+strings.Repeat("l", 200))
		require.ErrorIs(t, err, unix.EINVAL)

		require.NoError(t, all[6].Close())
		require.ErrorIs(t, all[6].Close(), net.ErrClosed)
		require.NoError(t, all[0].Close())
		mustExit(t, sb, sh("! ls /tmp/l 2>/dev/null; test -S /run/l"))
		require.NoError(t, sb.Close())
		for _, l := range all {
			_, err := l.Accept()
			require.ErrorIs(t, err, net.ErrClosed)
		}
	})
}

// A command that puts a link where Listen makes its socket gets nothing of the host's changed.
func TestListenUnixRace(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		victim := filepath.Join(t.TempDir(), "victim")
		require.NoError(t, os.WriteFile(victim, nil, 0o600))
		sb := box(t, sandbox.Options{})
		background(t, sb, sandbox.Command("python3", "-c", `
import os, sys
print("ready", flush=True)
while True:
    for do in (lambda: os.unlink("/tmp/s"), lambda: os.symlink(sys.argv[1], "/tmp/s"), lambda: os.unlink("/tmp/s")):
        try: do()
        except OSError: pass
`, victim))
		made := 0
		for range 500 {
			l, err := sb.Listen(t.Context(), "unix", "/tmp/s")
			if err == nil {
				made++
				require.NoError(t, l.Close())
			}
		}
		require.NotZero(t, made)
		info, err := os.Lstat(victim)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode())
	})
}

// Dial and Listen at the same time as Close: an error or not, and nothing is left.
func TestDialDuringClose(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		st := store(t)
		for range 10 {
			sb := sandbox.New(sandbox.Options{Store: st})
			require.NoError(t, sb.Prepare(t.Context()))
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					for n := range 20 {
						switch i % 4 {
						case 0:
							_, _ = sb.Listen(t.Context(), "tcp", ":0")
						case 1:
							_, _ = sb.Listen(t.Context(), "unix", fmt.Sprintf("/tmp/%d.%d", i, n))
						case 2:
							_, _ = sb.Dial(t.Context(), "tcp", ":1")
						case 3:
							_, _ = sb.Dial(t.Context(), "unix", "/tmp/1.0")
						}
					}
				})
			}
			time.Sleep(2 * time.Millisecond)
			require.NoError(t, sb.Close())
			wg.Wait()
		}
	})
}

// Host mode is the host's own network: only loopback is used here.
func TestHostNetwork(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{Network: netns.Config{Mode: netns.Host}})
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, "echo hello")
				c.Close()
			}
		}()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		out, err := sb.Output(t.Context(), sandbox.Command("python3", "-c", client, "AF_INET", "127.0.0.1", port))
		require.NoError(t, err)
		require.Equal(t, "echo hello", string(out))
		c, err := sb.Dial(t.Context(), "tcp", "127.0.0.1:"+port)
		require.NoError(t, err)
		data, err := io.ReadAll(c)
		require.NoError(t, errors.Join(err, c.Close()))
		require.Equal(t, "echo hello", string(data))
		// The rules are those of every mode: names are not the embedder's, nor are listeners for everybody.
		_, err = sb.Dial(t.Context(), "tcp", "example.com:80")
		require.ErrorIs(t, err, fs.ErrNotExist)
		_, err = sb.Dial(t.Context(), "unixgram", "/tmp/s")
		require.ErrorIs(t, err, net.UnknownNetworkError("unixgram"))
		listener, err := sb.Listen(t.Context(), "tcp", ":0")
		require.NoError(t, err)
		require.True(t, listener.Addr().(*net.TCPAddr).IP.IsLoopback())
		defer func() {
			require.NoError(t, sb.Close())
			_, err := listener.Accept()
			require.ErrorIs(t, err, net.ErrClosed)
		}()
		// Its files are still its own.
		inside, err := sb.Listen(t.Context(), "unix", "/tmp/s")
		require.NoError(t, err)
		require.NoError(t, inside.Close())

		// The control: without Host nobody is at that port.
		_, err = box(t, sandbox.Options{}).Output(t.Context(), sandbox.Command("python3", "-c", client, "AF_INET", "127.0.0.1", port))
		require.ErrorContains(t, err, "ConnectionRefusedError")
	})
}
