//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"
)

// pause says how long the world stood still under a load.
type pause struct {
	Load  string        `json:"load"`
	Rate  float64       `json:"starts_per_second"`
	Stops uint64        `json:"stops"`
	P50   time.Duration `json:"p50_ns"`
	P99   time.Duration `json:"p99_ns"`
	Max   time.Duration `json:"max_ns"`

	run    load
	starts int64
	counts []uint64 // of the stops, by bucket
}

// A load starts programs until ctx ends and says how many.
type load func(ctx context.Context) (starts int64, err error)

const (
	pauseRate  = 500                  // starts a second
	pausePass  = time.Second          // how long each load is tried before the next one's turn
	passRounds = 60                   // so many rounds of -n make a pass
	pauseEvery = 2 * time.Millisecond // between two stops of the world
)

// pauses stops the world again and again: without a load, while another program
// takes as much of the machine, while os/exec starts programs, and while a warm
// sandbox does.
func (e *env) pauses(ctx context.Context, r *report) (err error) {
	none := func(ctx context.Context) (int64, error) { <-ctx.Done(); return 0, nil }
	r.Pauses = []*pause{{Load: "none", run: none}, {Load: "os/exec, by another program", run: elsewhere}}
	for _, s := range []subject{e.osExec(), e.warm()} {
		if err := s.setup(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.teardown()) }()
		r.Pauses = append(r.Pauses, &pause{Load: s.name(), run: atRate(s)})
	}
	passes := max(1, e.config.rounds/passRounds)
	for range passes {
		for _, p := range r.Pauses {
			if err := p.pass(ctx); err != nil {
				return fmt.Errorf("%s: %w", p.Load, err)
			}
		}
	}
	for _, p := range r.Pauses {
		p.settle(time.Duration(passes) * pausePass)
	}
	return nil
}

// pass stops the world for pausePass under the load.
func (p *pause) pass(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pausePass)
	defer cancel()
	done := make(chan error, 1)
	go func() { // ends with ctx
		n, err := p.run(ctx)
		p.starts += n
		done <- err
	}()
	before := readPauses()
	var m runtime.MemStats
	for ctx.Err() == nil {
		runtime.ReadMemStats(&m)
		time.Sleep(pauseEvery)
	}
	after := readPauses()
	if p.counts == nil {
		p.counts = make([]uint64, len(after.Counts))
	}
	for i := range after.Counts {
		p.counts[i] += after.Counts[i] - before.Counts[i]
	}
	return <-done
}

// atRate starts programs at pauseRate; those that are late overlap.
func atRate(s subject) load {
	return func(ctx context.Context) (starts int64, err error) {
		tick := time.NewTicker(time.Second / pauseRate)
		defer tick.Stop()
		var wg sync.WaitGroup
		var failed atomic.Pointer[error]
		for ctx.Err() == nil && failed.Load() == nil {
			<-tick.C
			starts++
			wg.Go(func() {
				if err := s.once(context.WithoutCancel(ctx)); err != nil {
					failed.Store(&err)
				}
			})
		}
		wg.Wait()
		if e := failed.Load(); e != nil {
			err = *e
		}
		return starts, err
	}
}

// elsewhere has this program, started once more, start programs.
func elsewhere(ctx context.Context) (starts int64, err error) {
	cmd := exec.Command("/proc/self/exe", loadCommand)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	go func() { // ends with ctx
		<-ctx.Done()
		stdin.Close()
	}()
	out, err := cmd.Output()
	if err != nil {
		return 0, err
	}
	_, err = fmt.Sscan(string(out), &starts)
	return starts, err
}

// loadCommand makes this program start programs by os/exec until its standard
// input ends, and print how many.
const loadCommand = "load"

func beLoad(ctx context.Context) error {
	e := &env{config: &config{}}
	var err error
	if e.dir, err = os.MkdirTemp("", "sandbox-bench-"); err != nil {
		return err
	}
	defer e.close()
	if err := e.findProgram(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the program
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	n, err := atRate(e.osExec())(ctx)
	fmt.Println(n)
	return err
}

// readPauses is the runtime's histogram of the stops that are not the collector's.
func readPauses() *metrics.Float64Histogram {
	s := []metrics.Sample{{Name: "/sched/pauses/total/other:seconds"}}
	metrics.Read(s)
	return s[0].Value.Float64Histogram()
}

// settle works the figures out. A bucket stands for its upper end.
func (p *pause) settle(took time.Duration) {
	p.Rate = float64(p.starts) / took.Seconds()
	for _, n := range p.counts {
		p.Stops += n
	}
	bounds := readPauses().Buckets
	var seen uint64
	for i, n := range p.counts {
		if n == 0 {
			continue
		}
		before := seen
		seen += n
		p.Max = time.Duration(bounds[i+1] * float64(time.Second))
		if before*2 < p.Stops && seen*2 >= p.Stops {
			p.P50 = p.Max
		}
		if before*100 < p.Stops*99 && seen*100 >= p.Stops*99 {
			p.P99 = p.Max
		}
	}
}
