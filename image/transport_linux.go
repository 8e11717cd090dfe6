package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	maxAttempts  = 4                // of one request, and of one download without progress
	maxRetryWait = 30 * time.Second // the longest Retry-After that is obeyed; a longer one is an error at once
	maxRedirects = 10
)

// newTransport makes the connections of one Pull; CloseIdleConnections ends them.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   MaxParallel,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: time.Minute,
		// A transparently inflated blob would not be the blob that the digest is of.
		DisableCompression: true,
	}
}

// httpsOnly turns plain HTTP to anything but loopback into HTTPS: go-containerregistry falls back to HTTP for private
// addresses (RFC 1918) and follows redirects to it, so that credentials and layers would go in the clear unasked.
type httpsOnly struct{ next http.RoundTripper }

func (t httpsOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "http" && !isLoopback(r.URL.Hostname()) {
		r = r.Clone(r.Context())
		r.URL.Scheme = "https"
	}
	return t.next.RoundTrip(r)
}

func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") { // RFC 6761, section 6.3
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// retry repeats requests without a body that met an overloaded registry or a broken connection. The library's own waits
// do not end with the context and do not know Retry-After.
type retry struct{ next http.RoundTripper }

func (t retry) RoundTrip(r *http.Request) (*http.Response, error) {
	for attempt := 1; ; attempt++ {
		resp, err := t.next.RoundTrip(r)
		wait, again := retryAfter(resp, err, attempt)
		if !again || attempt == maxAttempts || (r.Body != nil && r.Body != http.NoBody) || r.Context().Err() != nil {
			return resp, err
		}
		if resp != nil {
			resp.Body.Close()
		}
		if err := sleep(r.Context(), wait); err != nil {
			return nil, err
		}
	}
}

func retryAfter(resp *http.Response, err error, attempt int) (time.Duration, bool) {
	wait := 250 * time.Millisecond << attempt
	if err != nil {
		return wait, transient(err)
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
	default:
		return 0, false
	}
	after := resp.Header.Get("Retry-After")
	if n, err := strconv.Atoi(after); err == nil && n >= 0 {
		wait = time.Duration(min(n, 1<<20)) * time.Second
	} else if at, err := http.ParseTime(after); err == nil {
		wait = max(0, time.Until(at))
	}
	return wait, wait <= maxRetryWait
}

func transient(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// checkRedirect refuses to be sent by a public registry to an address of this machine's own networks.
func checkRedirect(r *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	if from := via[0].URL.Hostname(); r.URL.Hostname() != from && !private(from) && private(r.URL.Hostname()) {
		return fmt.Errorf("redirect from %q to private address %q refused", from, r.URL.Hostname())
	}
	return nil
}

func private(host string) bool {
	ip, err := netip.ParseAddr(host)
	return isLoopback(host) || (err == nil && (ip.IsPrivate() || ip.IsLinkLocalUnicast() || ip.IsUnspecified()))
}

// download reads one blob, and goes on where it stopped (RFC 9110, section 14.2) when the connection is cut.
type download struct {
	ctx    context.Context
	client *http.Client
	url    url.URL
	body   io.ReadCloser
	off    int64
	bad    int // attempts since the last byte
}

func (d *download) Read(p []byte) (int, error) {
	for {
		if d.body == nil {
			if err := d.open(); err != nil {
				return 0, err
			}
		}
		n, err := d.body.Read(p)
		if n > 0 {
			d.off += int64(n)
			d.bad = 0
		}
		if err == nil || err == io.EOF || d.ctx.Err() != nil || !transient(err) || d.bad+1 >= maxAttempts {
			return n, err
		}
		d.bad++
		d.Close()
		d.body = nil
		if n > 0 {
			return n, nil
		}
		if err := sleep(d.ctx, 250*time.Millisecond<<d.bad); err != nil {
			return 0, err
		}
	}
}

func (d *download) open() error {
	req, err := http.NewRequestWithContext(d.ctx, http.MethodGet, d.url.String(), nil)
	if err != nil {
		return err
	}
	if d.off > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.off))
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return err
	}
	if err := d.check(resp); err != nil {
		resp.Body.Close()
		return err
	}
	d.body = resp.Body
	return nil
}

// check accepts a whole answer to a ranged request, by reading over what is known.
func (d *download) check(resp *http.Response) error {
	switch {
	case resp.StatusCode == http.StatusOK && d.off > 0:
		_, err := io.CopyN(io.Discard, resp.Body, d.off)
		return err
	case resp.StatusCode == http.StatusOK:
		return nil
	case resp.StatusCode == http.StatusPartialContent && d.off > 0:
		want := fmt.Sprintf("bytes %d-", d.off)
		if got := resp.Header.Get("Content-Range"); !strings.HasPrefix(got, want) {
			return fmt.Errorf("range %q instead of %q", got, want)
		}
		return nil
	}
	return statusError(resp)
}

func (d *download) Close() error {
	if d.body == nil {
		return nil
	}
	return d.body.Close()
}
