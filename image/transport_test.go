//go:build linux

package image

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	it "github.com/seed-5a9fb6e0/sandbox/internal/imagetest"
)

// cutter is a proxy on loopback that ends each connection after it passed on so many bytes of the answers.
func cutter(t *testing.T, target string, after int64) (addr string, cuts *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	cuts = new(atomic.Int64)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed by the test's end
			}
			wg.Go(func() {
				defer c.Close()
				up, err := net.Dial("tcp", target)
				if err != nil {
					return
				}
				defer up.Close()
				wg.Go(func() { io.Copy(up, c); up.(*net.TCPConn).CloseWrite() })
				if n, _ := io.CopyN(c, up, after); n == after {
					cuts.Add(1)
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String(), cuts
}

// TestResume: a connection that is cut again and again costs no byte twice.
func TestResume(t *testing.T) {
	host := it.Registry(t)
	it.Push(t, host+"/app", it.Image(t, it.Layer(t, it.File("big", noise(3<<20), 0o644))))
	addr, cuts := cutter(t, host, 1<<20)
	_, err := newStore(t).Pull(t.Context(), addr+"/app", amd64)
	require.NoError(t, err)
	require.GreaterOrEqual(t, cuts.Load(), int64(3))

	t.Run("without progress", func(t *testing.T) {
		addr, _ := cutter(t, host, 200) // not even the answer's header
		s := newStore(t)
		_, err := s.Pull(t.Context(), addr+"/app", amd64)
		require.Error(t, err)
		noTmp(t, s)
	})
}

// TestRetry: an overloaded server is asked again, when it says; a cancelled wait ends at once.
func TestRetry(t *testing.T) {
	var asked atomic.Int64
	after := "0"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 3 {
			w.Header().Set("Retry-After", after)
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	defer srv.Close()
	client := http.Client{Transport: retry{http.DefaultTransport}}
	get := func(ctx context.Context) (int, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
		require.NoError(t, err)
		resp, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	code, err := get(t.Context())
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code)
	require.EqualValues(t, 3, asked.Load())

	asked.Store(0)
	after = "20"
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = get(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	asked.Store(0)
	after = "3600" // longer than anybody wants to wait
	code, err = get(t.Context())
	require.NoError(t, err)
	require.Equal(t, http.StatusTooManyRequests, code)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestHTTPSOnly: only loopback is spoken to in the clear.
func TestHTTPSOnly(t *testing.T) {
	for in, want := range map[string]string{
		"http://127.0.0.1:1/v2/": "http", "http://[::1]:1/v2/": "http", "http://localhost/v2/": "http", "http://x.localhost:1/": "http",
		"http://192.168.1.1:5000/v2/": "https", "http://10.0.0.1/": "https", "http://example.test/": "https", "https://localhost/": "https",
		"http://localhost.example.test/": "https", "http://127.0.0.1.example.test/": "https",
	} {
		u, err := url.Parse(in)
		require.NoError(t, err)
		got := ""
		_, err = httpsOnly{roundTripper(func(r *http.Request) (*http.Response, error) {
			got = r.URL.Scheme
			return nil, io.EOF
		})}.RoundTrip(&http.Request{URL: u})
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, want, got, in)
	}
}

func TestRedirects(t *testing.T) {
	check := func(from, to string) error {
		a, err := url.Parse(from)
		require.NoError(t, err)
		b, err := url.Parse(to)
		require.NoError(t, err)
		return checkRedirect(&http.Request{URL: b}, []*http.Request{{URL: a}})
	}
	require.NoError(t, check("https://example.test/a", "https://cdn.example.test/b"))
	require.NoError(t, check("http://127.0.0.1:1/a", "http://127.0.0.2:2/b"))
	for _, to := range []string{"http://169.254.169.254/", "http://127.0.0.1/", "http://10.0.0.1/", "http://localhost/", "http://0.0.0.0/", "http://[fe80::1]/"} {
		require.Error(t, check("https://example.test/a", to), to)
	}
}

// TestNotARegistry: whatever answers instead of a registry is an error, soon.
func TestNotARegistry(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"HTML":          func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>welcome</html>") },
		"redirect loop": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) },
		"endless": func(w http.ResponseWriter, r *http.Request) {
			for strings.Contains(r.URL.Path, "manifests") {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		},
		"nothing": func(http.ResponseWriter, *http.Request) {},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(h)
			defer srv.Close()
			s := newStore(t)
			_, err := s.Pull(t.Context(), strings.TrimPrefix(srv.URL, "http://")+"/app", amd64)
			require.Error(t, err)
			var e *Error
			require.ErrorAs(t, err, &e)
			noTmp(t, s)
		})
	}
}

// TestNoGoroutinesLeft: a Pull takes its goroutines and connections with it.
func TestNoGoroutinesLeft(t *testing.T) {
	host := it.Registry(t)
	it.Push(t, host+"/app", it.Image(t, it.Layer(t, it.File("a", noise(1<<20), 0o644))))
	http.DefaultClient.CloseIdleConnections()
	before := runtime.NumGoroutine()
	fds := descriptors(t)
	for i := range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		o := amd64
		if i%2 == 1 {
			o.Progress = func(Progress) { cancel() }
		}
		_, err := newStore(t).Pull(ctx, host+"/app", o)
		require.Equal(t, i%2 == 1, err != nil, "%v", err)
		cancel()
	}
	// Connections are closed by their own goroutines, a moment after the Pull.
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before || descriptors(t) > fds; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines instead of %d, %d descriptors instead of %d\n%s", runtime.NumGoroutine(), before, descriptors(t), fds, buf[:runtime.Stack(buf, true)])
		}
	}
}
