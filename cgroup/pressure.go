package cgroup

import (
	"strconv"
	"strings"
	"time"
)

// Pressure says how long the tasks of a group and of the groups below it had to wait for what was short: pressure stall
// information, Documentation/accounting/psi.rst.
type Pressure struct {
	CPU, Memory, IO Stalls
}

// Stalls are the times in which some of the tasks that had work to do waited, and in which all of them did.
type Stalls struct {
	Some, Full Stall
}

// Stall is the share of the last 10, 60 and 300 seconds, in per cent, and the sum since the group was made.
type Stall struct {
	Avg10, Avg60, Avg300 float64
	Total                time.Duration // in microseconds
	Measured             bool          // whether the kernel gave it: CPU.Full needs Linux 5.13
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
