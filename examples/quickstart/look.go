package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/seed-5a9fb6e0/sandbox"
)

// script tells what a program in the sandbox sees, in two columns.
const script = `
row() { printf '  %s\t%s\n' "$1" "$2"; }
echo 'Seen from inside:'
row 'PID 1' "$(cat /proc/1/comm); the pid of this shell is $$"
cd /proc; set -- [0-9]*; row processes "$*"
row hostname "$(uname -n)"
row user "$(id)"
row network "$(ls /sys/class/net)"
title=mounts
while read -r _ dir type options _; do
	case $dir in /proc/*|/dev/*|/etc/*) continue;; esac
	row "$title" "$dir $type ${options%%,*}"; title=
done </proc/mounts`

// look runs the script and prints what it saw, and what held it.
func look(ctx context.Context, opts sandbox.Options, cmd *sandbox.Cmd) (code int, err error) {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	cmd.Args = []string{"sh", "-c", script}
	cmd.Stdout, cmd.Stderr = table, os.Stderr
	res, err := sandbox.Run(ctx, opts, cmd)
	if res == nil {
		return exitError, err
	}
	report(table, res)
	table.Flush()
	return res.ExitCode, err
}

func report(w io.Writer, res *sandbox.Result) {
	row := func(name string, value any) { fmt.Fprintf(w, "  %s\t%v\n", name, value) }
	u, a := res.Usage, res.Applied
	fmt.Fprintln(w, "Result:")
	row("status", res.String()+hits(res))
	row("time", u.Wall)
	row("processor", figure(u.User+u.System, u.CPUSource))
	row("memory KiB", figure(u.MemoryPeak>>10, u.MemorySource))
	row("processes", figure(u.PIDsPeak, u.PIDsSource))

	fmt.Fprintln(w, "Applied:")
	row("root", a.Root)
	row("namespaces", strings.Join(a.Namespaces, " "))
	row("user ids", strings.TrimSpace(a.UIDs)+" (inside, outside, count)")
	row("group ids", strings.TrimSpace(a.GIDs))
	row("cgroup", cmp.Or(a.Cgroup, "none"))
	row("capabilities", strings.Join(a.Capabilities, " "))
	row("no new privileges", a.NoNewPrivs)
	row("system calls", cmp.Or(a.Seccomp, "all"))
	row("Landlock ABI", a.Landlock)
}

// figure says how a figure was measured, if it was.
func figure(value any, by sandbox.Source) string {
	if by == sandbox.NotMeasured {
		return "not measured"
	}
	return fmt.Sprintf("%v (by %v)", value, by)
}

// hits names the limits that the command ran into.
func hits(res *sandbox.Result) (text string) {
	for _, h := range res.Hit {
		text += fmt.Sprintf(", hit the %v's %v", h.Scope, h.Status)
	}
	return text
}
