package sandboxtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/seed-5a9fb6e0/sandbox"
)

const (
	readyTime = time.Minute     // for all probes of a Start
	stopTime  = 5 * time.Second // the grace of a command's end
	killTime  = 5 * time.Second // what the end of a killed one and the copying of its streams may take
)

// A server is a command that Start has started.
type server struct {
	*sandbox.Process
	sb   *sandbox.Sandbox
	args []string
	out  output
	told bool // the test's log has its output
}

// Start starts c and returns it when all probes have succeeded, one after the other. The test fails at once when the
// command ends before, or when that takes more than a minute, or more than the test has left (its context, its deadline);
// the failure says how the command ended or what the probe said last, and what the command wrote.
//
// At the end of the test the command is stopped (Process.Stop, with five seconds of grace) before its sandbox is closed, and
// what it wrote, the last 64 KiB of both streams, goes to the log of a test that has failed. It is the caller's to see
// whether it ended before: Process.Done, Wait. A command that is PID 1 and has no handler for its stop signal ignores it, and
// costs the whole grace: set Cmd.Init, or have it handle SIGTERM.
//
// c is not modified, and its Stdout and Stderr still get all; as what they get is seen on its way, an *os.File there isn't
// passed on but copied to, and the output counts for Limits.Output also without them. A stream that Cmd.Pipes names is the
// caller's alone. Start may be called several times for one sandbox, also from parallel subtests.
func Start(t testing.TB, sb *sandbox.Sandbox, c *sandbox.Cmd, probes ...Probe) *sandbox.Process {
	t.Helper()
	if c == nil {
		t.Fatal("sandboxtest: Start without a Cmd")
	}
	cmd := *c
	s := &server{sb: sb, args: c.Args}
	s.out.attach(&cmd)
	attempts := make([]attempt, len(probes))
	for i, p := range probes {
		if err := p.fault(); err != nil {
			t.Fatalf("sandboxtest: %v", err)
		}
		attempts[i] = p.begin(s)
	}
	var err error
	if s.Process, err = sb.Start(t.Context(), &cmd); err != nil {
		t.Fatalf("%q: %v", s.args, err)
	}
	t.Cleanup(func() { s.end(t) })
	most := min(readyTime, left(t)*9/10) // the rest is for the log
	ctx, cancel := context.WithTimeoutCause(t.Context(), most, fmt.Errorf("not within %v", most))
	defer cancel()
	for i, p := range probes {
		if err := s.ready(ctx, p.text, attempts[i]); err != nil {
			s.told = true
			t.Fatalf("%q: %v\n%s", s.args, err, &s.out)
		}
	}
	return s.Process
}

// left is the time until the deadline of a test, long without one.
func left(t testing.TB) time.Duration {
	if t, ok := t.(interface{ Deadline() (time.Time, bool) }); ok { // a testing.B has none
		if end, ok := t.Deadline(); ok {
			return time.Until(end)
		}
	}
	return 10 * readyTime
}

// ready waits for one probe.
func (s *server) ready(ctx context.Context, probe string, try attempt) error {
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	var last error
	err := s.Ready(ctx, func(ctx context.Context) error {
		err := try(ctx)
		if last == nil || ctx.Err() == nil { // what it said by itself tells more than that there was no time
			last = err
		}
		if hopeless(err) {
			giveUp(errors.New("which won't change"))
		}
		return err
	})
	if err == nil {
		return nil
	}
	select {
	case <-s.Done():
		return fmt.Errorf("ended before it was ready: %s", s.verdict(s.Wait(context.WithoutCancel(ctx))))
	default:
		// What a probe says may be a hostile server's words.
		return fmt.Errorf("not ready: %s: %s (%v)", probe, printable(fmt.Sprint(last)), context.Cause(ctx))
	}
}

// hopeless says whether an attempt would never succeed.
func hopeless(err error) bool {
	var field *sandbox.FieldError
	return errors.Is(err, errors.ErrUnsupported) || errors.As(err, &field)
}

// verdict says how it ended.
func (s *server) verdict(res *sandbox.Result, err error) string {
	switch {
	case res == nil:
		return err.Error()
	case err == nil:
		return res.String()
	}
	return fmt.Sprintf("%v, %v", res, err)
}

// end stops the command, and tells a test that has failed what it was.
func (s *server) end(t testing.TB) {
	t.Helper()
	grace := max(min(stopTime, left(t)/2), 0)
	ctx, cancel := context.WithTimeout(context.Background(), grace+killTime) // the test's has ended
	defer cancel()
	res, err := s.Stop(ctx, grace)
	if err != nil && !errors.Is(err, os.ErrClosed) { // its sandbox's end is an end
		t.Errorf("%q: %v", s.args, err)
	}
	if t.Failed() && !s.told {
		t.Logf("%q: %s, %s", s.args, s.verdict(res, err), &s.out)
	}
}
