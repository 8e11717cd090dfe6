//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox"
)

// A figure is how far a limit or a measurement was off.
type figure struct {
	What  string  `json:"what"`
	Unit  string  `json:"unit"`
	Worst float64 `json:"worst"`
	P50   float64 `json:"p50"`
}

// selfCommand makes this program do in a sandbox what is measured there.
const selfCommand = "inside"

// accuracy compares what limits and figures say with what a program knows of itself.
func (e *env) accuracy(ctx context.Context) (all []figure, err error) {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	defer self.Close()
	box := sandbox.New(sandbox.Options{Store: e.store})
	defer box.Close()
	a := &accuracy{ctx: ctx, env: e, box: box, self: self}
	for _, m := range []func() (figure, error){a.startCPU, a.startMemory, a.spinner, a.cpuTime, a.cpuTimeThreads, a.wall} {
		f, err := m()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.What, err)
		}
		all = append(all, f)
	}
	for _, mib := range []int{1, 16, 64, 256, 512} {
		f, err := a.peak(mib)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.What, err)
		}
		all = append(all, f)
	}
	return all, nil
}

type accuracy struct {
	ctx  context.Context
	env  *env
	box  *sandbox.Sandbox
	self *os.File
}

// rounds measures one figure several times.
func (a *accuracy) rounds(what, unit string, once func() (float64, error)) (figure, error) {
	f := figure{What: what, Unit: unit}
	var values []float64
	for range a.env.config.rounds {
		v, err := once()
		if err != nil {
			return f, err
		}
		values = append(values, v)
		f.Worst = max(f.Worst, v)
	}
	f.P50 = median(values)
	return f, nil
}

func (a *accuracy) run(l sandbox.Limits, args ...string) (*sandbox.Result, string, error) {
	var out bytes.Buffer
	c := &sandbox.Cmd{Args: append([]string{"/proc/self/fd/3", selfCommand}, args...), ExtraFiles: []*os.File{a.self}, Limits: l, Stdout: &out}
	res, err := a.box.Run(a.ctx, c)
	return res, out.String(), err
}

// big is a limit that makes a cgroup and binds nobody.
var big = sandbox.Limits{Memory: 4 << 30, CPUTime: time.Hour}

func (a *accuracy) startCPU() (figure, error) {
	return a.rounds("processor time of a program that exits at once", "ms", func() (float64, error) {
		c := a.env.cmd(big)
		res, err := a.box.Run(a.ctx, &c)
		if err != nil {
			return 0, err
		}
		return (res.Usage.User + res.Usage.System).Seconds() * 1e3, nil
	})
}

func (a *accuracy) startMemory() (figure, error) {
	return a.rounds("memory of a program that exits at once", "KiB", func() (float64, error) {
		c := a.env.cmd(big)
		res, err := a.box.Run(a.ctx, &c)
		if err != nil {
			return 0, err
		}
		return float64(res.Usage.MemoryPeak) / 1024, nil
	})
}

func (a *accuracy) spinner() (figure, error) {
	return a.rounds("processor time of a second's spin, less its own getrusage", "ms", func() (float64, error) {
		res, out, err := a.run(big, "spin", "1000")
		if err != nil {
			return 0, err
		}
		own, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
		if err != nil {
			return 0, err
		}
		return (res.Usage.User + res.Usage.System - time.Duration(own)).Seconds() * 1e3, nil
	})
}

func (a *accuracy) cpuTime() (figure, error) { return a.overshoot("CPUTime overshot, one thread", "1") }
func (a *accuracy) cpuTimeThreads() (figure, error) {
	return a.overshoot("CPUTime overshot, four threads", "4")
}

func (a *accuracy) overshoot(what, threads string) (figure, error) {
	const limit = 300 * time.Millisecond
	return a.rounds(what, "ms of processor time", func() (float64, error) {
		res, _, err := a.run(sandbox.Limits{CPUTime: limit}, "spin", "100000", threads)
		if err != nil {
			return 0, err
		}
		if res.Status != sandbox.CPULimit {
			return 0, fmt.Errorf("status %v", res.Status)
		}
		return (res.Usage.User + res.Usage.System - limit).Seconds() * 1e3, nil
	})
}

func (a *accuracy) wall() (figure, error) {
	const limit = 200 * time.Millisecond
	return a.rounds("Wall overshot", "ms", func() (float64, error) {
		res, _, err := a.run(sandbox.Limits{Wall: limit}, "sleep")
		if err != nil {
			return 0, err
		}
		if res.Status != sandbox.WallLimit {
			return 0, fmt.Errorf("status %v", res.Status)
		}
		return (res.Usage.Wall - limit).Seconds() * 1e3, nil
	})
}

// peak is what touching memory costs above the memory, less what this program
// has without.
func (a *accuracy) peak(mib int) (figure, error) {
	return a.rounds(fmt.Sprintf("peak of touching %d MiB, less that of touching none", mib), "KiB above", func() (float64, error) {
		none, _, err := a.run(big, "touch", "0")
		if err != nil {
			return 0, err
		}
		res, _, err := a.run(big, "touch", strconv.Itoa(mib))
		if err != nil {
			return 0, err
		}
		return float64(res.Usage.MemoryPeak-none.Usage.MemoryPeak)/1024 - float64(mib)*1024, nil
	})
}

// inside is what is done in a sandbox.
func inside(args []string) error {
	n := 0
	if len(args) > 1 {
		n, _ = strconv.Atoi(args[1])
	}
	switch args[0] {
	case "sleep":
		select {}
	case "touch":
		if n == 0 {
			return nil
		}
		m, err := unix.Mmap(-1, 0, n<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return err
		}
		for i := 0; i < len(m); i += os.Getpagesize() {
			m[i] = 1
		}
	case "spin":
		if len(args) > 2 && args[2] == "4" {
			for range 3 {
				go spin(time.Hour)
			}
		}
		spin(time.Duration(n) * time.Millisecond)
		fmt.Println(used().Nanoseconds())
	}
	return nil
}

func spin(d time.Duration) {
	for used() < d {
		for range 10_000 {
		}
	}
}

// used is this program's processor time.
func used() time.Duration {
	var r unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &r) // fails only for a bad address
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func printAccuracy(t io.Writer, all []figure) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(t, "%-60s\tp50\tworst\t\n", "")
	for _, f := range all {
		fmt.Fprintf(t, "%-60s\t%.2f\t%.2f\t %s\n", f.What, f.P50, f.Worst, f.Unit)
	}
}
