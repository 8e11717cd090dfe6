package cgroup

import (
	"strconv"
	"strings"
)

// mount is a cgroup mount, from a line of /proc/PID/mountinfo, proc_pid_mountinfo(5).
type mount struct {
	major, minor uint32
	root         string // the cgroup that the mount shows; "/" when it is all
	point        string
	v2           bool
	ctl          Controllers // of v1
}

// parseMountinfo returns the cgroup mounts among the lines and skips lines that it can't read.
func parseMountinfo(s string) []mount {
	var ms []mount
	for line := range strings.Lines(s) {
		if m, ok := parseMount(line); ok {
			ms = append(ms, m)
		}
	}
	return ms
}

// parseMount reads "36 35 98:0 ROOT POINT OPTIONS [TAG…] - TYPE SOURCE SUPEROPTIONS".
func parseMount(line string) (mount, bool) {
	head, tail, ok := strings.Cut(line, " - ")
	f, g := strings.Fields(head), strings.Fields(tail)
	if !ok || len(f) < 6 || len(g) < 3 || (g[0] != "cgroup" && g[0] != "cgroup2") {
		return mount{}, false
	}
	major, minor, ok := parseDev(f[2])
	m := mount{major: major, minor: minor, root: unescape(f[3]), point: unescape(f[4]), v2: g[0] == "cgroup2"}
	if !m.v2 {
		m.ctl = parseControllers(g[2], func(r rune) bool { return r == ',' })
	}
	return m, ok && strings.HasPrefix(m.point, "/")
}

func parseDev(s string) (major, minor uint32, ok bool) {
	a, b, ok := strings.Cut(s, ":")
	x, err1 := strconv.ParseUint(a, 10, 32)
	y, err2 := strconv.ParseUint(b, 10, 32)
	return uint32(x), uint32(y), ok && err1 == nil && err2 == nil
}

// unescape undoes the kernel's octal escapes of blank, tab, newline and backslash (mangle_path in fs/seq_file.c).
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// parseUnifiedPath returns the v2 path in the text of a /proc/PID/cgroup, cgroups(7): the line "0::PATH".
func parseUnifiedPath(s string) (string, bool) {
	for line := range strings.Lines(s) {
		if p, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok && strings.HasPrefix(p, "/") {
			// " (deleted)" is added to the path of a removed cgroup: nothing can be made in that.
			return p, !strings.HasSuffix(p, " (deleted)")
		}
	}
	return "", false
}
