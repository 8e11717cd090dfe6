//go:build linux

package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// A report is what a run of the program found out.
type report struct {
	Kernel  string   `json:"kernel"`
	Arch    string   `json:"arch"`
	CPUs    int      `json:"cpus"`
	Go      string   `json:"go"`
	User    int      `json:"user"`
	Program string   `json:"program"`
	Rounds  int      `json:"rounds"`
	Ways    []*way   `json:"ways,omitempty"`
	Loads   []row    `json:"loads,omitempty"`
	Pauses  []*pause `json:"pauses,omitempty"`

	Rates    []rateRow `json:"rates,omitempty"`
	Accuracy []figure  `json:"accuracy,omitempty"`
}

func newReport(c *config) *report {
	var u unix.Utsname
	_ = unix.Uname(&u) // fails only for a bad address
	return &report{Kernel: unix.ByteSliceToString(u.Release[:]), Arch: runtime.GOARCH, CPUs: runtime.NumCPU(),
		Go: runtime.Version(), User: os.Geteuid(), Program: cmp.Or(c.program, "a static program that exits at once"), Rounds: c.rounds}
}

func (r *report) print(w io.Writer, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "\t")
		return e.Encode(r)
	}
	fmt.Fprintf(w, "Linux %s %s, %d processors, %s, user %d; %s; %d rounds, interleaved\n\n",
		r.Kernel, r.Arch, r.CPUs, r.Go, r.User, r.Program, r.Rounds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	printWays(t, r.Ways)
	printLoads(t, r.Loads)
	printPauses(t, r.Pauses)
	printRates(t, r.Rates)
	printAccuracy(t, r.Accuracy)
	if err := t.Flush(); err != nil {
		return err
	}
	for _, way := range r.Ways {
		if way.Missing != "" {
			fmt.Fprintf(w, "missing: %s: %s\n", way.Name, way.Missing)
		}
	}
	return nil
}

// The first column is padded by hand: the writer's alignment is that of figures.
const column = "%-46s\t"

func printWays(t io.Writer, ways []*way) {
	if len(ways) == 0 {
		return
	}
	fmt.Fprintf(t, column+"p50 ms\tp95 ms\t× os/exec\tin quarters\t\n", "")
	for _, w := range ways {
		if w.Missing == "" {
			fmt.Fprintf(t, column+"%s\t%s\t%.2f\t%.2f–%.2f\t\n", w.Name, ms(w.P50), ms(w.P95), w.Ratio, w.Low, w.High)
		}
	}
}

// printLoads has a row for each load and two columns for each way.
func printLoads(t io.Writer, loads []row) {
	for i, l := range loads {
		if i == 0 {
			fmt.Fprintf(t, column, "embedder with")
			for _, w := range l.Ways {
				fmt.Fprintf(t, "%s p50 ms\tp95 ms\t", w.Name)
			}
			fmt.Fprintf(t, "× os/exec\tin quarters\t\n")
		}
		fmt.Fprintf(t, column, l.Load)
		for _, w := range l.Ways {
			fmt.Fprintf(t, "%s\t%s\t", ms(w.P50), ms(w.P95))
		}
		last := l.Ways[len(l.Ways)-1]
		fmt.Fprintf(t, "%.2f\t%.2f–%.2f\t\n", last.Ratio, last.Low, last.High)
	}
}

func printPauses(t io.Writer, pauses []*pause) {
	if len(pauses) == 0 {
		return
	}
	fmt.Fprintf(t, column+"starts/s\tstops\tp50 ms\tp99 ms\tmax ms\t\n", "stop-the-world pauses under load")
	for _, p := range pauses {
		fmt.Fprintf(t, column+"%.0f\t%d\t%s\t%s\t%s\t\n", p.Load, p.Rate, p.Stops, ms(p.P50), ms(p.P99), ms(p.Max))
	}
}

func ms(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()*1e3) }
