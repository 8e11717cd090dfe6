package sandboxtest_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A recorder is a test within a test: what it says and whether it failed or skipped is its own.
type recorder struct {
	testing.TB
	ctx      context.Context
	deadline time.Time // zero: none

	mu              sync.Mutex
	text            strings.Builder
	failed, skipped bool
	cleanups        []func()
}

// A recording is one before it runs. The zero value has all the time of the test around it.
type recording struct {
	limit    time.Duration // of its context
	deadline time.Duration // what go test -timeout leaves
}

// run runs f and then what it registered by Cleanup, as package testing does.
func (o recording) run(t testing.TB, f func(t testing.TB)) *recorder {
	t.Helper()
	return o.runIn(t.Context(), t, f)
}

func (o recording) runIn(ctx context.Context, t testing.TB, f func(t testing.TB)) *recorder {
	ctx, cancel := context.WithCancel(ctx)
	if o.limit > 0 {
		ctx, cancel = context.WithTimeout(ctx, o.limit)
	}
	r := &recorder{TB: t, ctx: ctx}
	if o.deadline > 0 {
		r.deadline = time.Now().Add(o.deadline)
	}
	r.do(func() { f(r) })
	cancel()
	for len(r.cleanups) > 0 {
		last := r.cleanups[len(r.cleanups)-1]
		r.cleanups = slices.Delete(r.cleanups, len(r.cleanups)-1, len(r.cleanups))
		r.do(last)
	}
	return r
}

func record(t testing.TB, f func(t testing.TB)) *recorder {
	t.Helper()
	return recording{}.run(t, f)
}

// do calls f in a goroutine that FailNow and SkipNow may end.
func (r *recorder) do(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

func (r *recorder) say(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text.WriteString(s + "\n")
}

func (r *recorder) log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func (r *recorder) set(what *bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*what = true
}

func (r *recorder) Helper()                     {}
func (r *recorder) Context() context.Context    { return r.ctx }
func (r *recorder) Deadline() (time.Time, bool) { return r.deadline, !r.deadline.IsZero() }
func (r *recorder) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}
func (r *recorder) Failed() bool               { r.mu.Lock(); defer r.mu.Unlock(); return r.failed }
func (r *recorder) Log(args ...any)            { r.say(fmt.Sprint(args...)) }
func (r *recorder) Logf(f string, args ...any) { r.say(fmt.Sprintf(f, args...)) }
func (r *recorder) Fail()                      { r.set(&r.failed) }
func (r *recorder) FailNow()                   { r.Fail(); runtime.Goexit() }
func (r *recorder) Error(args ...any)          { r.Log(args...); r.Fail() }
func (r *recorder) Errorf(f string, a ...any)  { r.Logf(f, a...); r.Fail() }
func (r *recorder) Fatal(args ...any)          { r.Log(args...); r.FailNow() }
func (r *recorder) Fatalf(f string, a ...any)  { r.Logf(f, a...); r.FailNow() }
func (r *recorder) Skip(args ...any)           { r.Log(args...); r.set(&r.skipped); runtime.Goexit() }
