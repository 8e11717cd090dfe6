package cgroup

import (
	"errors"
	"io/fs"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLimitsValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		l      Limits
		fields string
	}{
		{"none", Limits{}, ""},
		{"usual", Limits{Memory: 1, Swap: 1, PIDs: 1, CPUs: 0.01, CPUSet: "0-3, 5"}, ""},
		{"unlimited swap", Limits{Memory: 1, Swap: Unlimited}, ""},
		{"unlimited swap alone", Limits{Swap: Unlimited}, ""},
		{"negative memory", Limits{Memory: -1}, "Memory"},
		{"negative swap", Limits{Memory: 1, Swap: -2}, "Swap"},
		{"swap without memory", Limits{Swap: 1}, "Swap"},
		{"overflow", Limits{Memory: math.MaxInt64, Swap: 1}, "Swap"},
		{"negative pids", Limits{PIDs: -1}, "PIDs"},
		{"negative cpus", Limits{CPUs: -0.5}, "CPUs"},
		{"tiny cpus", Limits{CPUs: 0.0001}, "CPUs"},
		{"just too small", Limits{CPUs: 0.00999}, "CPUs"},
		{"nan", Limits{CPUs: math.NaN()}, "CPUs"},
		{"inf", Limits{CPUs: math.Inf(1)}, "CPUs"},
		{"huge", Limits{CPUs: 1e300}, "CPUs"},
		{"cpuset words", Limits{CPUSet: "all"}, "CPUSet"},
		{"cpuset blank", Limits{CPUSet: " "}, "CPUSet"},
		{"cpuset backwards", Limits{CPUSet: "3-1"}, "CPUSet"},
		{"cpuset large", Limits{CPUSet: "0-99999999999"}, "CPUSet"},
		{"all of them", Limits{Memory: 9, MemoryHigh: 8, MemoryLow: 1, HugeTLB: map[int64]int64{2 << 20: 0}, CPUs: 0.001, CPUPeriod: time.Second,
			CPUWeight: 10000, IO: []IOLimit{{Device: "/", ReadBPS: 1}}, IOWeight: 1, Devices: StandardDevices()}, ""},
		{"high and low", Limits{MemoryHigh: -1, MemoryLow: -1}, "MemoryHigh MemoryLow"},
		{"odd pages", Limits{HugeTLB: map[int64]int64{3 << 20: 0}}, "HugeTLB"},
		{"negative pages", Limits{HugeTLB: map[int64]int64{2 << 20: -1}}, "HugeTLB"},
		{"short period", Limits{CPUs: 1, CPUPeriod: time.Microsecond}, "CPUPeriod"},
		{"long period", Limits{CPUs: 1, CPUPeriod: 2 * time.Second}, "CPUPeriod"},
		{"odd period", Limits{CPUs: 1, CPUPeriod: time.Millisecond + 1}, "CPUPeriod"},
		{"period alone", Limits{CPUPeriod: time.Second}, "CPUPeriod"},
		{"too small for the period", Limits{CPUs: 0.05, CPUPeriod: 10 * time.Millisecond}, "CPUs"},
		{"heavy", Limits{CPUWeight: 10001, IOWeight: -1}, "CPUWeight IOWeight"},
		{"disks", Limits{IO: []IOLimit{{Device: "8:0"}, {ReadBPS: 1}, {Device: "8:0", WriteIOPS: -1}}}, "IO[0] IO[1].Device IO[2].WriteIOPS"},
		{"devices", Limits{Devices: []string{"c 1:3 rw", "a *:* rwm", "c 1:3", "c 1 r", "b -1:0 r", "c 1:3 x"}}, "Devices[1] Devices[2] Devices[3] Devices[4] Devices[5]"},
		{"all at once", Limits{Memory: -1, Swap: -2, PIDs: -1, CPUs: -1, CPUSet: "x"}, "Memory Swap CPUs CPUSet PIDs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.l.Validate()
			require.Equal(t, c.fields, strings.Join(faults(err), " "))
			if c.fields != "" {
				require.ErrorIs(t, err, fs.ErrInvalid)
			}
		})
	}
}

// faults are the fields that a joined error names.
func faults(err error) []string {
	var fields []string
	if err, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range err.Unwrap() {
			var f *FieldError
			if errors.As(e, &f) {
				fields = append(fields, f.Field)
			}
		}
	}
	return fields
}

func TestOptionsValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		o      Options
		fields string
	}{
		{"plain", Options{Name: "a"}, ""},
		{"path", Options{Name: "a.b", Parent: "user.slice/user@1000.service/x"}, ""},
		{"no name", Options{}, "Name"},
		{"path as name", Options{Name: "a/b"}, "Name"},
		{"leaving", Options{Name: "..", Parent: "a/../../b"}, "Parent Name"},
		{"absolute", Options{Name: "a", Parent: "/a"}, "Parent"},
		{"newline", Options{Name: "a\n"}, "Name"},
		{"kernel's file", Options{Name: "memory.x"}, "Name"},
		{"tasks", Options{Name: "tasks"}, "Name"},
		{"long", Options{Name: strings.Repeat("x", 256)}, "Name"},
		{"bits", Options{Name: "a", Controllers: 1 << 30}, "Controllers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.fields, strings.Join(faults(c.o.validate()), " "))
		})
	}
}

func TestCPUSet(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "0": "0", "0-3": "0-3", "3,1,2": "1-3", " 1 , 64 ": "1,64", "0-1,1-2,63-65": "0-2,63-65", "8191": "8191",
	} {
		s, err := parseCPUSet(in)
		require.NoError(t, err, in)
		require.Equal(t, want, s.String(), in)
	}
	for _, in := range []string{",", "1,", "-1", "1-", "a", "1-2-3", "8192", "+1", "0x1"} {
		_, err := parseCPUSet(in)
		require.Error(t, err, in)
	}
	a, _ := parseCPUSet("0-3,70")
	b, _ := parseCPUSet("2-5")
	require.Equal(t, "2-3", a.and(b).String())
	require.Equal(t, "0-1,70", a.without(b).String())
	require.Equal(t, "0-5,70", b.or(a).String())
	require.Equal(t, "2-5", b.String(), "operands stay as they were")
}

func TestMountinfo(t *testing.T) {
	const text = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 master:1 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/x /mnt/a\040b\134c rw - cgroup cgroup rw,memory
36 31 0:33 / /x rw - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,memory_recursiveprot
42 31 0:x / /bad rw - cgroup2 cgroup2 rw
43 31 0:1 / relative rw - cgroup2 cgroup2 rw
short - cgroup
`
	require.Equal(t, []mount{
		{0, 29, "/", "/sys/fs/cgroup/cpu,cpuacct", false, CPU | CPUAcct},
		{0, 32, "/docker/x", `/mnt/a b\c`, false, Memory},
		{0, 33, "/", "/x", false, 0},
		{0, 38, "/", "/sys/fs/cgroup/unified", true, 0},
	}, parseMountinfo(text))
}

func TestUnifiedPath(t *testing.T) {
	for in, want := range map[string]string{
		"0::/\n": "/", "4:memory:/a\n0::/user.slice/b:c\n": "/user.slice/b:c", "0::/a": "/a",
	} {
		got, ok := parseUnifiedPath(in)
		require.True(t, ok, in)
		require.Equal(t, want, got)
	}
	for _, in := range []string{"", "4:memory:/a\n", "0::\n", "0::/a (deleted)\n", "0::rel\n"} {
		_, ok := parseUnifiedPath(in)
		require.False(t, ok, in)
	}
}

func TestKeysAndPIDs(t *testing.T) {
	const text = "max 3\noom_kill 0\nnot a number\nbare\nsome avg10=0.00\n"
	for k, want := range map[string]int64{"max": 3, "oom_kill": 0, "not": -1, "bare": -1, "some": -1, "ma": -1, "": -1} {
		n, ok := parseKey(text, k)
		require.Equal(t, want >= 0, ok, k)
		require.Equal(t, max(want, 0), n, k)
	}
	require.Equal(t, []int{1, 0, 42}, parsePIDs("1\n0\nx\n42\n-7\n"))
}

func TestUsageAll(t *testing.T) {
	user, system, ok := parseUsageAll("cpu user system\n0 5 7\n1 10 20\n")
	require.Equal(t, []any{int64(15), int64(27), true}, []any{user, system, ok})
	for _, bad := range []string{"", "cpu user system\n", "cpu user system\n0 x 7\n"} {
		_, _, ok = parseUsageAll(bad)
		require.False(t, ok, "%q", bad)
	}
}

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		total, user, system int64
		u, s                time.Duration
	}{
		{100, 0, 0, 100, 0}, {100, 7, 0, 100, 0}, {100, 0, 7, 0, 100}, {100, 30, 10, 75, 25},
		{math.MaxInt64 / 2, math.MaxInt64 / 2, 0, math.MaxInt64 / 2, 0},
	} {
		u, s := split(c.total, c.user, c.system)
		require.Equal(t, c.u, u)
		require.Equal(t, c.s, s)
	}
}

func TestErrorTexts(t *testing.T) {
	err := &UnsupportedError{What: "memory controller", Remedy: "do this", Err: fs.ErrPermission}
	require.EqualError(t, err, "cgroup memory controller: permission denied (do this)")
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorIs(t, err, fs.ErrPermission)
	require.ErrorIs(t, &UnsupportedError{}, errors.ErrUnsupported)
	require.EqualError(t, &FieldError{"CPUSet", "a\nb", "odd"}, `CPUSet: "a\nb": odd`)
	require.Equal(t, "unknown", Figure[int64]{}.String())
	require.Equal(t, "1s", Figure[time.Duration]{time.Second, true}.String())
	require.Equal(t, "memory,cpu", (CPU | Memory).String())
}

func FuzzCPUSet(f *testing.F) {
	for _, s := range []string{"0-3,7", "", " 1 , 2", "8191", "1-0", "0-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		set, err := parseCPUSet(s)
		if err != nil {
			return
		}
		again, err := parseCPUSet(set.String())
		if err != nil || again.String() != set.String() {
			t.Fatalf("%q: %q is read as %q, %v", s, set, again, err)
		}
	})
}

func FuzzMountinfo(f *testing.F) {
	f.Add("35 31 0:32 /a /mnt/a\\040b rw shared:1 - cgroup cgroup rw,memory,pids\n")
	f.Add("41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
	f.Fuzz(func(t *testing.T, s string) {
		for _, m := range parseMountinfo(s) {
			if !strings.HasPrefix(m.point, "/") || m.v2 && m.ctl != 0 {
				t.Fatalf("%q: %+v", s, m)
			}
		}
	})
}

func FuzzUnifiedPath(f *testing.F) {
	f.Add("4:memory:/a\n0::/b\n")
	f.Fuzz(func(t *testing.T, s string) {
		if p, ok := parseUnifiedPath(s); ok && (!strings.HasPrefix(p, "/") || !strings.Contains(s, "0::"+p)) {
			t.Fatalf("%q: %q", s, p)
		}
	})
}

func FuzzKeys(f *testing.F) {
	f.Add("max 3\noom_kill 0\n", "1\n2\n")
	f.Fuzz(func(t *testing.T, keys, pids string) {
		if n, ok := parseKey(keys, "max"); ok && !strings.Contains(keys, "max ") || !ok && n != 0 {
			t.Fatalf("%q: %d", keys, n)
		}
		for _, pid := range parsePIDs(pids) {
			if pid < 0 {
				t.Fatalf("%q: %d", pids, pid)
			}
		}
	})
}
