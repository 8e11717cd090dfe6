package cgroup

import (
	"strconv"
	"strings"
)

// parseKey finds the line "key number", the kernel's flat keyed format, in which other lines don't matter.
func parseKey(s, key string) (int64, bool) {
	for line := range strings.Lines(s) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok && k == key {
			n, err := strconv.ParseInt(v, 10, 64)
			if err == nil {
				return n, true
			}
		}
	}
	return 0, false
}

// parseUsageAll adds up the lines "cpu user system" of v1's cpuacct.usage_all, in ns; it is false when it can't read one.
func parseUsageAll(s string) (user, system int64, ok bool) {
	for line := range strings.Lines(s) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] == "cpu" {
			continue
		}
		u, err1 := strconv.ParseInt(f[1], 10, 64)
		v, err2 := strconv.ParseInt(f[2], 10, 64)
		if err1 != nil || err2 != nil {
			return 0, 0, false
		}
		user, system, ok = user+u, system+v, true
	}
	return user, system, ok
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
