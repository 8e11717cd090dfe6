//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-5a9fb6e0/sandbox"
)

// A rateRow is how many programs a second one way starts and sees end, so many
// at once.
type rateRow struct {
	Name    string    `json:"name"`
	Missing string    `json:"missing,omitempty"`
	Rates   []float64 `json:"rates,omitempty"`  // a second; medians, in the order of levels
	Ratios  []float64 `json:"ratios,omitempty"` // to os/exec
}

// levels are how many are started at once.
var levels = []int{1, 2, 4, 8, 16}

// slice is how long one way is measured in one round.
const slice = 400 * time.Millisecond

// rates measures each level interleaved, in random order.
func (e *env) rates(ctx context.Context) (rows []rateRow, err error) {
	host := sandbox.Options{Store: e.store}
	limited := sandbox.Limits{Memory: 64 << 20, PIDs: 64, CPUs: 1}
	timed := limited
	timed.CPUTime, timed.Wall = time.Second, 10*time.Second
	all := append([]subject{
		e.osExec(),
		e.warm(),
		&warm{title: "warm Run, memory, pids, cpu limits", opts: host, cmd: e.cmd(limited)},
		&warm{title: "the same with cpu time and wall limits", opts: host, cmd: e.cmd(timed)},
	}, e.peers()...)
	var ready []subject
	defer func() {
		for _, s := range ready {
			err = errors.Join(err, s.teardown())
		}
	}()
	index := map[subject]int{}
	for _, s := range all {
		if !e.config.only.match(s.name()) && s != all[0] {
			continue
		}
		index[s] = len(rows)
		rows = append(rows, rateRow{Name: s.name()})
		if err := s.setup(ctx); errors.Is(err, errors.ErrUnsupported) {
			rows[index[s]].Missing = err.Error()
			continue
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name(), err)
		}
		ready = append(ready, s)
	}
	for _, n := range levels {
		rates := map[subject][]float64{}
		for range e.config.rounds {
			for _, i := range rand.Perm(len(ready)) {
				r, err := rate(ctx, ready[i], n)
				if err != nil {
					return nil, fmt.Errorf("%s, %d at once: %w", ready[i].name(), n, err)
				}
				rates[ready[i]] = append(rates[ready[i]], r)
			}
		}
		base := median(rates[all[0]])
		for _, s := range ready {
			row := &rows[index[s]]
			row.Rates = append(row.Rates, median(rates[s]))
			row.Ratios = append(row.Ratios, median(rates[s])/base)
		}
	}
	return rows, nil
}

// rate starts programs for a slice of time, n at once.
func rate(ctx context.Context, s subject, n int) (float64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var done atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range n {
		wg.Go(func() {
			for time.Since(began) < slice && ctx.Err() == nil {
				if err := s.once(ctx); err != nil {
					cancel(err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(done.Load()) / time.Since(began).Seconds(), context.Cause(ctx)
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

func printRates(t io.Writer, rows []rateRow) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(t, column, "programs a second, and × os/exec; at once:")
	for _, n := range levels {
		fmt.Fprintf(t, "%d\t\t", n)
	}
	fmt.Fprintln(t)
	for _, r := range rows {
		fmt.Fprintf(t, column, r.Name)
		for i := range r.Rates {
			fmt.Fprintf(t, "%.0f\t%.2f\t", r.Rates[i], r.Ratios[i])
		}
		if r.Missing != "" {
			fmt.Fprint(t, "missing\t")
		}
		fmt.Fprintln(t)
	}
}
