//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// A subject is one way to start a program and see it end.
type subject interface {
	name() string
	// setup makes what is there before the first start. errors.ErrUnsupported
	// says that this way can't be had here.
	setup(ctx context.Context) error
	// once starts the program and waits for its end: this is timed.
	once(ctx context.Context) error
	teardown() error
}

// warmups are the rounds before those that count.
const warmups = 3

// measure times every subject once a round, interleaved in random order, so that
// what disturbs the machine disturbs all of them.
func (c *config) measure(ctx context.Context, all []subject) (ways []*way, err error) {
	var ready []*way
	defer func() {
		for _, w := range ready {
			err = errors.Join(err, w.subject.teardown())
		}
	}()
	for _, s := range all {
		w := &way{Name: s.name(), subject: s}
		ways = append(ways, w)
		err := s.setup(ctx)
		if errors.Is(err, errors.ErrUnsupported) {
			w.Missing = err.Error()
			err = s.teardown()
		} else {
			ready = append(ready, w)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name(), err)
		}
	}
	for round := range warmups + c.rounds {
		for _, i := range rand.Perm(len(ready)) {
			time.Sleep(c.idle)
			d, err := ready[i].time(ctx)
			if err != nil {
				return nil, err
			}
			if round >= warmups {
				ready[i].times = append(ready[i].times, d)
			}
		}
	}
	compare(ready)
	return ways, nil
}

// A way is a subject with what was measured.
type way struct {
	Name    string        `json:"name"`
	Missing string        `json:"missing,omitempty"` // why it could not be measured
	P50     time.Duration `json:"p50_ns,omitempty"`
	P95     time.Duration `json:"p95_ns,omitempty"`
	// Ratio is P50 to that of the first way, Low and High are its extremes in
	// the quarters of the run: how far noise moves it.
	Ratio float64 `json:"ratio,omitempty"`
	Low   float64 `json:"ratio_low,omitempty"`
	High  float64 `json:"ratio_high,omitempty"`

	subject subject
	times   []time.Duration // in the order of the rounds
}

func (w *way) time(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	err := w.subject.once(ctx)
	took := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", w.Name, err)
	}
	return took, nil
}

// quarters are how many parts of a run are compared.
const quarters = 4

// compare works the figures out.
func compare(ways []*way) {
	for _, w := range ways {
		base := ways[0].times
		w.P50, w.P95 = quantile(w.times, 0.50), quantile(w.times, 0.95)
		w.Ratio = ratio(w.times, base)
		w.Low, w.High = w.Ratio, w.Ratio
		for q := range quarters {
			from, to := q*len(base)/quarters, (q+1)*len(base)/quarters
			if from < to {
				r := ratio(w.times[from:to], base[from:to])
				w.Low, w.High = min(w.Low, r), max(w.High, r)
			}
		}
	}
}

func ratio(times, base []time.Duration) float64 {
	return float64(quantile(times, 0.5)) / float64(quantile(base, 0.5))
}

// quantile is the value that a part q of the times does not exceed.
func quantile(times []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
