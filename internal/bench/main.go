//go:build linux

// Command bench measures starting programs in sandboxes beside what else could
// start them, interleaved in one run, as ratios to os/exec.
//
//	go run ./internal/bench spawn            what one start costs, ours and the peers'
//	go run ./internal/bench spawn -heap      how that depends on the embedder's memory
//	go run ./internal/bench spawn -fds       … on its open descriptors
//	go run ./internal/bench spawn -pauses    what 500 starts a second do to the embedder
//	go run ./internal/bench limits           starts a second, several at a time, under limits
//	go run ./internal/bench accuracy         how exact limits and figures are
//
// Milliseconds differ between machines and days; ratios of one run can be compared.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime/pprof"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := bench(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// config is what the command line says.
type config struct {
	command     string
	rounds      int
	program     string
	idle        time.Duration
	only        regexpFlag
	store       string
	json        bool
	profile     string
	heap        bool
	fds, pauses bool
}

// regexpFlag picks subjects by name; none: all.
type regexpFlag struct{ *regexp.Regexp }

func (r *regexpFlag) set(text string) (err error) {
	r.Regexp, err = regexp.Compile(text)
	return err
}

func (r *regexpFlag) match(name string) bool { return r.Regexp == nil || r.MatchString(name) }

func bench(ctx context.Context, args []string) error {
	if len(args) == 1 && args[0] == loadCommand {
		return beLoad(ctx)
	}
	if len(args) > 1 && args[0] == selfCommand {
		return inside(args[1:])
	}
	if len(args) == 0 || defaultRounds[args[0]] == 0 {
		return errors.New("usage: bench spawn|limits|accuracy [flags]")
	}
	c, err := parse(args[0], args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.run(ctx)
}

// defaultRounds has an entry for each command.
var defaultRounds = map[string]int{"spawn": 300, "limits": 8, "accuracy": 5}

func parse(command string, args []string) (*config, error) {
	c := &config{command: command}
	f := flag.NewFlagSet("bench "+command, flag.ContinueOnError)
	f.IntVar(&c.rounds, "n", defaultRounds[command], "`rounds`; each measures every way once, in random order")
	f.StringVar(&c.program, "program", "", "`path` below /usr of a program to be run with the argument \"true\"; default: a static one that exits at once")
	f.DurationVar(&c.idle, "idle", time.Millisecond, "`time` before each start, for the kernel to clear away what the last one left")
	f.Func("run", "`regexp` of the ways to measure; default: all", c.only.set)
	f.StringVar(&c.store, "store", "", "`directory` for a store; default: a temporary one, removed at the end")
	f.BoolVar(&c.json, "json", false, "print JSON in place of a table")
	f.StringVar(&c.profile, "cpuprofile", "", "`file` for a CPU profile of the measured time")
	f.BoolVar(&c.heap, "heap", false, "start time against the embedder's heap: 0, 1 and 4 GiB")
	f.BoolVar(&c.fds, "fds", false, "start time against the embedder's descriptors: 10 and 10,000")
	f.BoolVar(&c.pauses, "pauses", false, "stop-the-world pauses at 500 starts a second, a second of each load for 60 rounds of -n")
	err := f.Parse(args)
	switch {
	case err != nil:
		return nil, err
	case f.NArg() > 0:
		return nil, fmt.Errorf("argument %q: not a flag", f.Arg(0))
	case c.rounds < 1:
		return nil, fmt.Errorf("-n %d: less than one round", c.rounds)
	}
	return c, nil
}

// run makes the tables that were asked for.
func (c *config) run(ctx context.Context) (err error) {
	e, err := newEnv(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	stop, err := c.startProfile()
	if err != nil {
		return err
	}
	defer stop()
	r := newReport(c)
	switch {
	case c.command == "limits":
		r.Rates, err = e.rates(ctx)
	case c.command == "accuracy":
		r.Accuracy, err = e.accuracy(ctx)
	case c.heap || c.fds || c.pauses:
		err = e.loads(ctx, r)
	default:
		r.Ways, err = c.measure(ctx, e.subjects())
	}
	if err != nil {
		return err
	}
	return r.print(os.Stdout, c.json)
}

func (c *config) startProfile() (stop func(), err error) {
	if c.profile == "" {
		return func() {}, nil
	}
	f, err := os.Create(c.profile)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		f.Close()
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}, nil
}
