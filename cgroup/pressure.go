package cgroup

import (
	"strconv"
	"strings"
	"time"
)

// Pressure says how long the tasks of a group and of the groups below it had to wait for what was short: pressure stall
// information, Documentation/accounting/psi.rst.
type Pressure struct {
	CPU    Stalls // a processor
	Memory Stalls // reclaim, swap, and what had been dropped from the page cache
	IO     Stalls // disks
}

// Stalls are the times in which tasks waited for one kind of thing.
type Stalls struct {
	Some Stall // at least one of those that had work to do
	Full Stall // all of them
}

// Stall is how much of the time was so.
type Stall struct {
	// Avg10, Avg60 and Avg300 are of the last 10, 60 and 300 seconds, in per cent.
	Avg10, Avg60, Avg300 float64
	// Total is since the group was made, to the microsecond.
	Total time.Duration
	// Measured says whether the kernel gave it: CPU.Full needs Linux 5.13.
	Measured bool
}

// parsePressure reads the lines "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" and "full …".
func parsePressure(text string) (s Stalls) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		switch stall, ok := parseStall(f[1:]); {
		case !ok:
		case f[0] == "some":
			s.Some = stall
		case f[0] == "full":
			s.Full = stall
		}
	}
	return s
}

func parseStall(fields []string) (s Stall, ok bool) {
	for _, f := range fields {
		k, v, _ := strings.Cut(f, "=")
		n, err := strconv.ParseFloat(v, 64)
		if err != nil {
			return Stall{}, false
		}
		switch k {
		case "avg10":
			s.Avg10 = n
		case "avg60":
			s.Avg60 = n
		case "avg300":
			s.Avg300 = n
		case "total":
			us, err := strconv.ParseInt(v, 10, 64)
			s.Total, s.Measured = time.Duration(us)*time.Microsecond, err == nil
		}
	}
	return s, s.Measured
}
