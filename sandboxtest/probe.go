package sandboxtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"github.com/seed-5a9fb6e0/sandbox"
)

const (
	attemptTime = time.Second      // of one attempt to connect or to get an answer
	execTime    = 10 * time.Second // of one command of Exec
)

// A Probe says whether a command that Start has started is ready. It is tried again and again until it succeeds or Start
// gives up, and at once when what it says can't change (errors.ErrUnsupported, a *sandbox.FieldError). A Probe is a value
// that may be used for any number of Starts. The zero Probe is an error, as one that was made of bad arguments is: Start
// fails the test before it starts anything.
type Probe struct {
	text  string // as the test has it: Listening("tcp", ":80")
	err   error  // what is wrong with it
	begin func(*server) attempt
}

func (p Probe) fault() error {
	switch {
	case p.err != nil:
		return fmt.Errorf("%s: %w", p.text, p.err)
	case p.begin == nil:
		return errors.New("the zero Probe, which tries nothing")
	}
	return nil
}

// An attempt is one try for a server.
type attempt func(context.Context) error

// probe is a Probe whose attempts have a bound.
func probe(text string, err error, most time.Duration, try func(context.Context, *server) error) Probe {
	late := fmt.Errorf("no answer within %v", most)
	return Probe{text, err, func(s *server) attempt {
		return func(ctx context.Context) error {
			ctx, cancel := context.WithTimeoutCause(ctx, most, late)
			defer cancel()
			return try(ctx, s)
		}
	}}
}

// Listening is a Probe that connects to an address in the sandbox, by Sandbox.Dial, and closes the connection: network is
// "tcp", "tcp4", "tcp6" or "unix". One attempt has a second.
func Listening(network, addr string) Probe {
	text := fmt.Sprintf("Listening(%q, %q)", network, addr)
	return probe(text, checkAddr(network, addr), attemptTime, func(ctx context.Context, s *server) error {
		conn, err := s.sb.Dial(ctx, network, addr)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

func checkAddr(network, addr string) error {
	switch network {
	case "tcp", "tcp4", "tcp6":
		_, _, err := net.SplitHostPort(addr)
		return err
	case "unix":
		if addr == "" {
			return errors.New("no address")
		}
		return nil
	}
	return net.UnknownNetworkError(network) // nobody need listen for "udp" to succeed
}

// HTTP is a Probe that gets an URL from a server in the sandbox, by Sandbox.Dial: "http://localhost:8080/health". A status
// of 200 to 399 is ready; redirects are not followed. One attempt has a second.
func HTTP(rawURL string) Probe {
	u, err := url.Parse(rawURL)
	if err == nil && (u.Scheme != "http" || u.Host == "") {
		err = errors.New("not of the form http://host:port/path")
	}
	return probe(fmt.Sprintf("HTTP(%q)", rawURL), err, attemptTime, func(ctx context.Context, s *server) error {
		return s.get(ctx, rawURL)
	})
}

func (s *server) get(ctx context.Context, rawURL string) error {
	client := http.Client{
		Transport: &http.Transport{
			// A dial that outlives its request would keep a connection for the next.
			DialContext:       func(_ context.Context, network, addr string) (net.Conn, error) { return s.sb.Dial(ctx, network, addr) },
			DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 200 && resp.StatusCode < 400 {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 256)) // for the message alone
	return fmt.Errorf("%s: %q", resp.Status, body)
}

// Line is a Probe for a line of the command's output, on either stream, that the regular expression matches (package
// regexp). The line must have ended; what is longer than 64 KiB counts as several. Of a stream that Cmd.Pipes names it
// sees nothing.
func Line(re string) Probe {
	r, err := regexp.Compile(re)
	return Probe{fmt.Sprintf("Line(%q)", re), err, func(s *server) attempt {
		w := s.out.watch(r) // before there is a line
		return func(ctx context.Context) error {
			select {
			case <-w.found:
				return nil
			case <-ctx.Done():
				return errors.New("no such line")
			}
		}
	}}
}

// File is a Probe for what has a path in the sandbox, as Sandbox.Root sees it: not in mounts that each command has of its
// own. Symbolic links are followed.
func File(path string) Probe {
	return probe(fmt.Sprintf("File(%q)", path), nil, attemptTime, func(ctx context.Context, s *server) error {
		root, err := s.sb.Root(ctx)
		if err != nil {
			return err
		}
		_, err = root.Stat(path)
		return err
	})
}

// Exec is a Probe that runs a command beside that of Start, by Process.Run, until one exits with 0. It has ten seconds each
// time, less with Limits.Wall. c is not modified; a Stdin or Writers of its own serve all attempts.
func Exec(c *sandbox.Cmd) Probe {
	if c == nil {
		return Probe{text: "Exec(nil)", err: errors.New("no Cmd")}
	}
	return probe(fmt.Sprintf("Exec(%q)", c.Args), nil, execTime, func(ctx context.Context, s *server) error {
		var out output
		cmd := *c
		out.attach(&cmd)
		res, err := s.Run(ctx, &cmd)
		if err == nil {
			err = res.Err()
		}
		if err != nil {
			return fmt.Errorf("%w, %s", err, &out)
		}
		return nil
	})
}

// Func is a Probe of the test's own: a db.PingContext whose connections are made by Sandbox.Dial. Its context ends when
// Start gives up or the command has ended; it is f's to end with it.
func Func(f func(context.Context) error) Probe {
	if f == nil {
		return Probe{text: "Func(nil)", err: errors.New("no function")}
	}
	return Probe{"Func", nil, func(*server) attempt { return f }}
}
