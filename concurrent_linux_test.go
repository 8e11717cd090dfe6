package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/escape"
	"github.com/seed-5a9fb6e0/sandbox/internal/imagetest"
	"github.com/seed-5a9fb6e0/sandbox/netns"
)

func TestConcurrentRuns(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		for name, o := range map[string]sandbox.Options{"host userland": {}, "rootfs": {Rootfs: skeleton(t)}} {
			t.Run(name, func(t *testing.T) {
				sb := box(t, o)
				const n = 32
				var group sync.WaitGroup
				results := make([]string, n)
				for i := range n {
					group.Go(func() {
						out, err := sb.Output(t.Context(), sandbox.Command("sh", "-c", fmt.Sprintf("echo $$ $(ls /proc | grep -c '^[0-9]*$') >/tmp/%d; cat /tmp/%d", i, i)))
						results[i] = fmt.Sprint(strings.TrimSpace(string(out)), err)
					})
				}
				group.Wait()
				for _, r := range results {
					// itself, the subshell, ls and grep
					require.Regexp(t, `^1 [34]<nil>$`, r)
				}
				require.Equal(t, "32", shell(t, sb, "set -- /tmp/*; echo $#"))
			})
		}
	})
}

// What a command leaves behind has ended when Run returns.
func TestDaemonsEndWithPID1(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		for name, o := range map[string]sandbox.Options{"host userland": {}, "rootfs": {Rootfs: skeleton(t)}} {
			t.Run(name, func(t *testing.T) {
				sb, mark := box(t, o), newMark()
				c := attemptCmd(t, "daemon", mark)
				require.Equal(t, "ok", output(t, sb, c))
				require.Empty(t, living(t, mark))
				control := exec.Command(escape.Program(t), "daemon", mark)
				require.NoError(t, control.Run())
				left := living(t, mark)
				require.Len(t, left, 1, "the control's daemon does not stay")
				require.NoError(t, exec.Command("kill", "-9", strings.Split(left[0], "/")[2]).Run())
			})
		}
	})
}

func TestAbstractSockets(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		a, b := box(t, sandbox.Options{}), box(t, sandbox.Options{})
		name := newMark()
		c := attemptCmd(t, "listen", name)
		c.Pipes = sandbox.PipeStdout
		p, err := a.Start(t.Context(), c)
		require.NoError(t, err)
		defer p.Stdout.Close()
		_, err = p.Stdout.Read(make([]byte, 6))
		require.NoError(t, err)
		require.Equal(t, "ok", inside(t, a, "connect", name), "the control: another command of the same sandbox")
		require.Equal(t, "ECONNREFUSED", inside(t, b, "connect", name))
		require.Equal(t, "ECONNREFUSED", escape.Outside(t, "connect", name))

		host := newMark()
		l, err := net.Listen("unix", "@"+host)
		require.NoError(t, err)
		defer l.Close()
		require.Equal(t, "ok", escape.Outside(t, "connect", host), "the control")
		require.Equal(t, "ECONNREFUSED", inside(t, a, "connect", host))

		shared := box(t, sandbox.Options{Network: netns.Config{Mode: netns.Host}})
		r, err := shared.Run(t.Context(), sandbox.Command("true"))
		require.NoError(t, err)
		want := "EPERM" // by Landlock alone: it is the host's network
		if r.Applied.Landlock < 6 {
			want = "ok"
		}
		require.Equal(t, want, inside(t, shared, "connect", host), "with the host's network")
	})
}

// gated is a registry that answers once the gate is open, and tells when it was
// first asked. A request that ends before the gate opens is told to aborted.
func gated(t *testing.T) (ref string, asked <-chan struct{}, aborted *atomic.Int32, open func()) {
	registry := imagetest.Registry(t)
	imagetest.Push(t, registry+"/busybox:1", imagetest.Busybox(t))
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: registry})
	gate, first := make(chan struct{}), make(chan struct{})
	var once, opened sync.Once
	aborted = new(atomic.Int32)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(first) })
		select {
		case <-gate:
			proxy.ServeHTTP(w, r)
		case <-r.Context().Done():
			aborted.Add(1)
		}
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go server.Serve(l) // ends with Close
	open = func() { opened.Do(func() { close(gate) }) }
	t.Cleanup(func() { open(); server.Close(); http.DefaultTransport.(*http.Transport).CloseIdleConnections() })
	return l.Addr().String() + "/busybox:1", first, aborted, open
}

// result waits for what a goroutine has to say.
func result(t *testing.T, c <-chan error) error {
	t.Helper()
	select {
	case err := <-c:
		return err
	case <-time.After(time.Minute):
		t.Fatal("it hangs")
		return nil
	}
}

func prepare(ctx context.Context, sb *sandbox.Sandbox) <-chan error {
	c := make(chan error, 1)
	go func() { c <- sb.Prepare(ctx) }()
	return c
}

// running gives what was started the time to get where it waits.
const running = 30 * time.Millisecond

func TestPrepareIsShared(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		needsUnion(t)
		ref, asked, aborted, open := gated(t)
		st := store(t)
		sb := box(t, sandbox.Options{Store: st, Image: ref})
		ctx, cancel := context.WithCancel(t.Context())
		first := prepare(ctx, sb)
		<-asked
		second := prepare(t.Context(), sb)
		time.Sleep(running)
		cancel()
		require.ErrorIs(t, result(t, first), context.Canceled)
		time.Sleep(running)
		require.Zero(t, aborted.Load(), "the end of the first caller's context disturbed the build")
		open()
		require.NoError(t, result(t, second))
		require.NoError(t, sb.Prepare(t.Context()))
		all, err := st.Sandboxes(t.Context())
		require.NoError(t, err)
		require.Len(t, all, 1)
	})
}

func TestPrepareIsCancelledWithItsLastCaller(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		needsUnion(t)
		ref, asked, aborted, open := gated(t)
		st := store(t)
		sb := box(t, sandbox.Options{Store: st, Image: ref})
		ctx, cancel := context.WithCancelCause(t.Context())
		first := prepare(ctx, sb)
		<-asked
		why := errors.New("why")
		cancel(why)
		require.ErrorIs(t, result(t, first), why)
		require.Eventually(t, func() bool { return aborted.Load() == 1 }, time.Minute, time.Millisecond)
		all, err := st.Sandboxes(t.Context())
		require.NoError(t, err)
		require.Empty(t, all)
		open()
		require.Equal(t, "1", shell(t, sb, "echo $$"), "the next caller does not try again")
	})
}

func TestFailedBuildIsTriedAgain(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		st := store(t)
		other := sandbox.New(sandbox.Options{Store: st, Name: "one"})
		require.NoError(t, other.Prepare(t.Context()))
		sb := box(t, sandbox.Options{Store: st, Name: "one", Rootfs: skeleton(t)})
		for range 2 {
			require.ErrorIs(t, sb.Prepare(t.Context()), fs.ErrExist)
			_, err := sb.Run(t.Context(), sandbox.Command("true"))
			require.ErrorIs(t, err, fs.ErrExist)
		}
		require.Equal(t, "1", shell(t, other, "echo $$"), "the loser took something away from the owner of the name")
		require.NoError(t, other.Close())
		require.Equal(t, "one", shell(t, sb, "hostname"))
	})
}

func TestCloseWhileBuilding(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		ref, asked, _, _ := gated(t)
		st := store(t)
		sb := sandbox.New(sandbox.Options{Store: st, Image: ref})
		first := prepare(t.Context(), sb)
		<-asked
		closed := make(chan error, 1)
		go func() { closed <- sb.Close() }()
		require.NoError(t, result(t, closed))
		require.ErrorIs(t, result(t, first), os.ErrClosed)
		all, err := st.Sandboxes(t.Context())
		require.NoError(t, err)
		require.Empty(t, all)
	})
}

func TestAfterClose(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		for name, use := range map[string]func(*sandbox.Sandbox){
			"unused": func(*sandbox.Sandbox) {},
			"used":   func(sb *sandbox.Sandbox) { require.Equal(t, "1", shell(t, sb, "echo $$")) },
		} {
			t.Run(name, func(t *testing.T) {
				sb := sandbox.New(sandbox.Options{Store: store(t)})
				use(sb)
				require.NoError(t, sb.Close())
				require.NoError(t, sb.Close())
				_, err := sb.Run(t.Context(), sandbox.Command("true"))
				require.ErrorIs(t, err, os.ErrClosed)
				_, err = sb.Start(t.Context(), sandbox.Command("true"))
				require.ErrorIs(t, err, os.ErrClosed)
				_, err = sb.Dial(t.Context(), "tcp", ":1")
				require.ErrorIs(t, err, os.ErrClosed)
				_, err = sb.Listen(t.Context(), "tcp", ":0")
				require.ErrorIs(t, err, os.ErrClosed)
				require.ErrorIs(t, sb.Prepare(t.Context()), os.ErrClosed)
			})
		}
	})
}
