package cgroup

import (
	"strconv"
	"strings"
)

// parseKeys reads lines "key number", the kernel's flat keyed format, and skips other lines.
func parseKeys(s string) map[string]int64 {
	m := map[string]int64{}
	for line := range strings.Lines(s) {
		k, v, ok := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseInt(v, 10, 64); ok && err == nil {
			m[k] = n
		}
	}
	return m
}

// parsePIDs reads one number per line, the format of cgroup.procs, and skips other lines. A 0 stands for a process of
// a PID namespace that can't be seen from here.
func parsePIDs(s string) []int {
	var pids []int
	for line := range strings.Lines(s) {
		if n, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && n >= 0 {
			pids = append(pids, n)
		}
	}
	return pids
}
