package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/escape"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
	"github.com/seed-5a9fb6e0/sandbox/netns"
)

// namespaces reads where the links of a /proc/PID/ns lead.
func namespaces(t *testing.T, sb *sandbox.Sandbox) map[string]string {
	found := map[string]string{}
	for line := range strings.Lines(shell(t, sb, `cd /proc/self/ns && for n in user mnt pid uts ipc net cgroup time; do echo $n $(readlink $n); done`)) {
		name, ns, _ := strings.Cut(strings.TrimSpace(line), " ")
		found[name] = ns
	}
	require.Len(t, found, 8)
	return found
}

func TestNamespaces(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		for name, c := range map[string]struct {
			options sandbox.Options
			shared  []string // with the embedder
		}{
			"zero":         {sandbox.Options{}, []string{"time"}},
			"clock":        {sandbox.Options{Clock: &sandbox.Clock{Boottime: time.Hour}}, nil},
			"host network": {sandbox.Options{Network: netns.Config{Mode: netns.Host}}, []string{"net", "time"}},
		} {
			t.Run(name, func(t *testing.T) {
				sb := box(t, c.options)
				if c.options.Clock != nil && !entersClock() {
					requireNoClock(t, sb)
					return
				}
				var same []string
				for name, ns := range namespaces(t, sb) {
					own, err := os.Readlink("/proc/self/ns/" + name)
					require.NoError(t, err)
					if own == ns {
						same = append(same, name)
					}
				}
				slices.Sort(same)
				require.Equal(t, c.shared, same)
			})
		}
	})
}

// A command has a PID, mount and cgroup namespace of its own; the others are its sandbox's.
func TestNamespacesOfTwoCommands(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		sb, other := box(t, sandbox.Options{Security: unfiltered}), box(t, sandbox.Options{Security: unfiltered})
		first := hold(t, sb) // else the kernel may use a number again
		a, b, c := namespaces(t, sb), namespaces(t, sb), namespaces(t, other)
		for _, name := range []string{"user", "uts", "ipc", "net"} { // those of the others may have been used again
			require.NotEqual(t, a[name], c[name], name)
			require.Equal(t, a[name], b[name], name)
		}
		for _, name := range []string{"pid", "mnt", "cgroup"} {
			ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", first.PID(), name))
			require.NoError(t, err)
			require.NotEqual(t, ns, a[name], name)
		}
	})
}

// hold starts a command that stays.
func hold(t testing.TB, sb *sandbox.Sandbox) *sandbox.Process {
	t.Helper()
	c := attemptCmd(t, "hold")
	c.Pipes = sandbox.PipeStdout
	p, err := sb.Start(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Kill(); <-p.Done(); p.Stdout.Close() })
	_, err = p.Stdout.Read(make([]byte, 6))
	require.NoError(t, err)
	return p
}

// A mount as a sandbox shows it.
type mount struct{ target, fstype, root, options string }

func mounts(t *testing.T, mountinfo string) (all []mount) {
	for line := range strings.Lines(mountinfo) {
		front, back, ok := strings.Cut(strings.TrimSpace(line), " - ")
		require.True(t, ok, "%q", line)
		f := strings.Fields(front)
		// Optional fields would name a peer group: a way for mounts to spread.
		require.Len(t, f, 6, "%q", line)
		if name, bound := strings.CutPrefix(f[4], "/dev/"); bound && f[3] == "/"+name && slices.Contains(deviceNames, name) {
			continue // a user's sandbox binds them one by one: TestDevices looks at each
		}
		if f[3] == "/null" || f[3] == "/.empty" {
			all = append(all, mount{f[4], "mask", "", ""})
			continue
		}
		options := slices.DeleteFunc(strings.Split(f[5], ","), func(o string) bool { return o == "relatime" || o == "idmapped" })
		all = append(all, mount{f[4], strings.Fields(back)[0], f[3], strings.Join(options, ",")})
	}
	return all
}

// The mounts of the World's own that every sandbox has, and those of each command.
var (
	worldMounts = []mount{
		{"/dev", "tmpfs", "/", "ro,nosuid,noexec"},
		{"/dev/mqueue", "mqueue", "/", "rw,nosuid,nodev,noexec"},
		{"/dev/pts", "devpts", "/", "rw,nosuid,noexec"},
		{"/dev/shm", "tmpfs", "/", "rw,nosuid,nodev,noexec"},
		{"/proc", "proc", "/", "rw,nosuid,nodev,noexec"},
		{"/sys", "sysfs", "/", "ro,nosuid,nodev,noexec"},
	}
	procMounts = []mount{ // where the kernel has the name, and others may read it
		{"/proc", "proc", "/", "rw,nosuid,nodev,noexec"},
		{"/proc/acpi", "mask", "", ""},
		{"/proc/asound", "mask", "", ""},
		{"/proc/interrupts", "mask", "", ""},
		{"/proc/kcore", "mask", "", ""},
		{"/proc/keys", "mask", "", ""},
		{"/proc/latency_stats", "mask", "", ""},
		{"/proc/sched_debug", "mask", "", ""},
		{"/proc/pressure", "mask", "", ""},
		{"/proc/scsi", "mask", "", ""},
		{"/proc/sys", "proc", "/sys", "ro,nosuid,nodev,noexec"},
		{"/proc/timer_list", "mask", "", ""},
		{"/proc/timer_stats", "mask", "", ""},
	}
)

// expectedMounts are all of a sandbox with these of its root.
func expectedMounts(root []mount) []mount {
	all := slices.Concat(root, worldMounts)
	for _, m := range procMounts {
		if info, err := os.Lstat(m.target); err == nil && info.Mode()&0o004 != 0 {
			all = append(all, m)
		}
	}
	return all
}

// hostRootMounts are those of the host's userland: private directories, and what of the host is there.
func hostRootMounts(t *testing.T) []mount {
	all := []mount{
		{"/", "tmpfs", "/", "ro,nosuid,nodev"},
		{"/home", "tmpfs", "/", "rw,nosuid,nodev"},
		{"/run", "tmpfs", "/", "rw,nosuid,nodev"},
		{"/tmp", "tmpfs", "/", "rw,nosuid,nodev"},
		{"/etc/hosts", "tmpfs", "/.own//deleted", "ro,nosuid,nodev,noexec"},
	}
	if os.Geteuid() == 0 { // below it is the one of what all sandboxes begin with
		all = append(all, mount{"/sys", "sysfs", "/", "ro,nosuid,nodev,noexec"})
	}
	for _, name := range []string{"/usr", "/bin", "/sbin", "/lib*", "/etc/alternatives", "/etc/ssl/certs", "/etc/pki/tls/certs",
		"/etc/pki/ca-trust/extracted", "/etc/ca-certificates/extracted", "/etc/java-*"} {
		found, err := filepath.Glob(name)
		require.NoError(t, err)
		for _, dir := range found {
			if info, err := os.Lstat(dir); err == nil && info.IsDir() {
				all = append(all, mount{dir, fstype(t, dir), "", "ro,nosuid,nodev"})
			}
		}
	}
	return all
}

// fstype is that of the mount a directory of the host is on.
func fstype(t *testing.T, dir string) (found string) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	best := ""
	for line := range strings.Lines(string(text)) {
		front, back, _ := strings.Cut(line, " - ")
		point := strings.Fields(front)[4]
		if (point == "/" || dir == point || strings.HasPrefix(dir, point+"/")) && len(point) >= len(best) {
			best, found = point, strings.Fields(back)[0]
		}
	}
	return found
}

func sorted(all []mount) (lines []string) {
	for _, m := range all {
		if slices.Contains([]string{"ext4", "xfs", "btrfs", "overlay"}, m.fstype) {
			m.root = "" // where it is on the host's disk
		}
		lines = append(lines, fmt.Sprintf("%s %s %s %s", m.target, m.fstype, m.root, m.options))
	}
	slices.Sort(lines)
	return lines
}

func TestMounts(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		t.Run("host userland", func(t *testing.T) {
			sb := box(t, sandbox.Options{})
			require.Equal(t, sorted(expectedMounts(hostRootMounts(t))), sorted(mounts(t, shell(t, sb, "cat /proc/self/mountinfo"))))
		})
		for name, readOnly := range map[string]bool{"rw,nosuid,nodev": false, "ro,nosuid,nodev": true} {
			t.Run("rootfs "+name, func(t *testing.T) {
				sb := box(t, sandbox.Options{Rootfs: skeleton(t), ReadOnly: readOnly})
				root := []mount{{"/", "overlay", "/", name}}
				require.Equal(t, sorted(expectedMounts(root)), sorted(mounts(t, shell(t, sb, "cat /proc/self/mountinfo"))))
			})
		}
		t.Run("host network", func(t *testing.T) { // the kernel allows no sysfs: /sys is empty
			sb := box(t, sandbox.Options{Network: netns.Config{Mode: netns.Host}})
			require.Empty(t, shell(t, sb, "ls -A /sys"))
		})
	})
}

// Everything that is in /dev: type, mode and device number, or target.
var devices = []string{
	"/dev directory 755 0:0", "/dev/fd -> /proc/self/fd", "/dev/stdin -> /proc/self/fd/0",
	"/dev/stdout -> /proc/self/fd/1", "/dev/stderr -> /proc/self/fd/2", "/dev/ptmx -> pts/ptmx",
	"/dev/full character special file 666 1:7", "/dev/null character special file 666 1:3", "/dev/random character special file 666 1:8",
	"/dev/tty character special file 666 5:0", "/dev/urandom character special file 666 1:9", "/dev/zero character special file 666 1:5",
	"/dev/mqueue directory 1777 0:0", "/dev/pts directory 755 0:0", "/dev/pts/ptmx character special file 666 5:2", "/dev/shm directory 1777 0:0",
}

var deviceNames = []string{"full", "null", "random", "tty", "urandom", "zero"}

func TestDevices(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		sb := box(t, sandbox.Options{})
		out := shell(t, sb, `find /dev ! -name .empty | while read f; do if [ -L $f ]; then echo "$f -> $(readlink $f)"; else stat -c '%n %F %a %t:%T' $f; fi; done`)
		got := strings.Split(out, "\n")
		slices.Sort(got)
		require.Equal(t, slices.Sorted(slices.Values(devices)), got)

		require.Equal(t, "0", shell(t, sb, "echo gone >/dev/null; wc -c </dev/null"))
		require.Equal(t, "3", shell(t, sb, "head -c3 /dev/zero | wc -c"))
		require.Equal(t, "3", shell(t, sb, "head -c3 /dev/urandom | wc -c"))
		require.Equal(t, "1", shell(t, sb, "echo a >/dev/full 2>/dev/null; echo $?"))
		require.Equal(t, "ENXIO", inside(t, sb, "open_r", "/dev/tty"))
		require.Equal(t, "ok", inside(t, sb, "open_r", "/dev/ptmx"))
		require.Equal(t, "shm", shell(t, sb, "echo shm >/dev/shm/a; cat /dev/shm/a"))
		require.Equal(t, "EROFS", inside(t, sb, "create", "/dev/new"))
	})
}

// What a command over the host's userland may change at all, by its rights and the mounts: found from inside.
var writable = []string{
	"/dev/full", "/dev/mqueue", "/dev/null", "/dev/pts", "/dev/pts/ptmx", "/dev/random", "/dev/shm", "/dev/tty", "/dev/urandom", "/dev/zero",
	"/home", "/home/root", "/run", "/tmp",
}

// Files of /proc that are not of one process, and that commands may read: of some other kernel's there may be fewer.
var readableProc = strings.Fields(`bootconfig buddyinfo cgroups cmdline config.gz consoles cpuinfo crypto devices diskstats dma dynamic_debug
	execdomains fb filesystems iomem ioports kallsyms key-users kpagecgroup kpagecount kpageflags loadavg locks mdstat meminfo misc modules mtrr
	partitions schedstat softirqs stat swaps sysrq-trigger uptime version version_signature vmstat zoneinfo interrupts keys timer_list sched_debug`)

func TestInventory(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		sb := box(t, sandbox.Options{})
		for _, withInit := range []bool{false, true} {
			cmd := sandbox.Command("sh", "-c", `find / -regex '/proc/[0-9].*' -prune -o ! -type l -writable -print 2>/dev/null; true`)
			cmd.Init = withInit
			found := slices.DeleteFunc(strings.Fields(output(t, sb, cmd)), func(name string) bool {
				return slices.ContainsFunc(procMounts, func(m mount) bool { return m.target == name && m.fstype == "mask" }) // /dev/null, there
			})
			require.Equal(t, writable, slices.Sorted(slices.Values(found)))
		}
		for _, name := range strings.Fields(shell(t, sb, "find /proc -maxdepth 1 -type f -readable -size 0 -printf '%f '")) {
			require.Contains(t, readableProc, name)
		}
	})
}

func TestEnvironmentAndDescriptors(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		t.Setenv("SECRET_OF_THE_EMBEDDER", "1")
		sb := box(t, sandbox.Options{Env: []string{"A=1", "B=2"}})
		out := output(t, sb, &sandbox.Cmd{Args: []string{"cat", "/proc/self/environ"}, Env: []string{"B=3"}})
		require.Equal(t, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\x00HOME=/root\x00USER=root\x00A=1\x00B=3\x00", out)

		require.Equal(t, "0 1 2 3", strings.Join(strings.Fields(shell(t, sb, "ls /proc/self/fd")), " "), "3 is ls's own")
		f, err := os.Open("/proc/self/status")
		require.NoError(t, err)
		defer f.Close()
		out = output(t, sb, &sandbox.Cmd{Args: []string{"ls", "/proc/self/fd"}, ExtraFiles: []*os.File{f, f}})
		require.Equal(t, "0 1 2 3 4 5", strings.Join(strings.Fields(out), " "))
	})
}

// entersClock says whether a child of os/exec, which shares memory with us until its exec as a command does, is in the
// time namespace then that it unshared (Linux 6.2).
func entersClock() bool {
	cmd := exec.Command("readlink", "/proc/self/ns/time")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWTIME}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWUSER
	}
	its, err := cmd.Output()
	own, err2 := os.Readlink("/proc/self/ns/time")
	return err == nil && err2 == nil && strings.TrimSpace(string(its)) != own
}

// requireNoClock wants the error of a kernel where a command would keep the host's clocks.
func requireNoClock(t *testing.T, sb *sandbox.Sandbox) {
	t.Helper()
	_, err := sb.Run(t.Context(), sandbox.Command("true"))
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "a clock of its own")
}

func TestClock(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		read := func(text string) (m, b time.Duration) {
			f := strings.Fields(text)
			mono, err := strconv.Atoi(f[0])
			require.NoError(t, err)
			boot, err := strconv.Atoi(f[1])
			require.NoError(t, err)
			return time.Duration(mono) * time.Second, time.Duration(boot) * time.Second
		}
		hostMono, hostBoot := read(escape.Outside(t, "clocks"))
		for _, c := range []sandbox.Clock{{Monotonic: 1000 * time.Hour, Boottime: 2000 * time.Hour}, {Boottime: -hostBoot / 2 / time.Second * time.Second}} {
			sb := box(t, sandbox.Options{Clock: &c})
			if !entersClock() {
				requireNoClock(t, sb)
				continue
			}
			mono, boot := read(inside(t, sb, "clocks"))
			require.InDelta(t, (hostMono + c.Monotonic).Seconds(), mono.Seconds(), 10)
			require.InDelta(t, (hostBoot + c.Boottime).Seconds(), boot.Seconds(), 10)
		}
	})
}

// The attributes of a command, whatever those of the embedder; rlimitN is N of asm-generic/resource.h.
var attributes = map[string]string{
	"umask": "18", "nice": "0", "policy": "0", "timerslack": "50000", "personality": "0", "pdeathsig": "9", "dumpable": "1",
	"subreaper": "0", "no_new_privs": "1", "securebits": "0", "keepcaps": "0", "thp_disable": "0", "groups": "0", "sid": "1", "pgrp": "1",
	"tty": "-6", "fd": "0 1 2 3", "cwd": "/",
	"rlimit0": "-1 -1", "rlimit1": "-1 -1", "rlimit2": "-1 -1", "rlimit3": "8388608 -1", "rlimit4": "0 0", "rlimit5": "-1 -1",
	"rlimit6": "-1 -1", "rlimit7": "1024 524288", "rlimit8": "8388608 8388608", "rlimit9": "-1 -1", "rlimit10": "-1 -1",
	"rlimit11": "8192 8192", "rlimit12": "819200 819200", "rlimit13": "0 0", "rlimit14": "0 0", "rlimit15": "-1 -1",
}

// expectedAttributes cuts the resource limits to this process's hard ones.
func expectedAttributes(t *testing.T) map[string]string {
	want := maps.Clone(attributes)
	hard := parseAttributes(t, escape.Outside(t, "attributes"))
	for name, value := range want {
		if !strings.HasPrefix(name, "rlimit") {
			continue
		}
		top := strings.Fields(hard[name])[1]
		if n, err := strconv.ParseInt(top, 10, 64); err == nil && name == "rlimit11" && n > 0 {
			top = strconv.FormatInt(n/2, 10) // what is queued is a user's, whose sandboxes leave him half
		}
		var cut []string
		for _, v := range strings.Fields(value) {
			a, err1 := strconv.ParseInt(v, 10, 64)
			b, err2 := strconv.ParseInt(top, 10, 64)
			require.NoError(t, err1)
			require.NoError(t, err2)
			if uint64(b) < uint64(a) { // -1 is the largest
				v = top
			}
			cut = append(cut, v)
		}
		want[name] = strings.Join(cut, " ")
	}
	want["cpus"] = hard["cpus"]
	return want
}

func parseAttributes(t *testing.T, text string) map[string]string {
	found := map[string]string{}
	for line := range strings.Lines(strings.TrimSuffix(text, "ok")) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		require.True(t, ok, "%q", line)
		if before, again := found[name]; again {
			value = before + " " + value
		}
		found[name] = value
	}
	return found
}

func TestInherited(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		want := expectedAttributes(t)
		require.Equal(t, "ok", escape.Outside(t, "odd", escape.Program(t), "read_key", "embedder"), "the control has no key")
		odd := parseAttributes(t, escape.Outside(t, "odd", escape.Program(t), "attributes"))
		for _, name := range []string{"umask", "nice", "policy", "cpus", "timerslack", "personality", "ignored", "blocked", "rlimit3", "rlimit4", "rlimit7", "tty", "fd", "cwd", "subreaper"} {
			require.NotEqual(t, want[name], odd[name], "the control has no odd %s", name)
		}
		e := newEmbedder("odd", t.TempDir(), escape.Program(t), escape.Program(t), "odd").start(t)
		lines := e.end(t)
		at := func(title string) []string {
			i := indexOf(t, lines, title)
			return lines[i+1 : i+1+indexOf(t, lines[i:], "ok")-1]
		}
		if os.Getuid() != 0 { // without privilege nobody becomes more important
			want["nice"] = "5"
		}
		require.Equal(t, want, parseAttributes(t, strings.Join(at("attributes"), "\n")))
		require.Equal(t, "ENOKEY", lines[indexOf(t, lines, "key")+1])
		require.Equal(t, "0", lines[indexOf(t, lines, "oom")+1])
		require.Equal(t, "500 5", lines[indexOf(t, lines, "own")+1], "the embedder's own attributes changed")
		require.NotContains(t, lines[indexOf(t, lines, "env")+1], "ODD")
	})
}

func indexOf(t *testing.T, lines []string, line string) int {
	t.Helper()
	i := slices.Index(lines, line)
	require.GreaterOrEqual(t, i, 0, "%q: no %q", lines, line)
	return i
}

// playOdd is an embedder that was given odd attributes, and makes some odder.
func playOdd(dir string) error {
	st, err := sandbox.Open(dir)
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGUSR1, syscall.SIGALRM)
	if tellsExit() { // else nobody knows how a command ended: the kernel drops it
		signal.Ignore(syscall.SIGCHLD)
	}
	sb := sandbox.New(sandbox.Options{Store: st, Security: unfiltered})
	program, err := os.Open(os.Getenv(argEnv))
	if err != nil {
		return err
	}
	for _, c := range []struct {
		title string
		args  []string
	}{
		{"attributes", []string{"/proc/self/fd/3", "attributes"}},
		{"key", []string{"/proc/self/fd/3", "read_key", "embedder"}},
		{"oom", []string{"cat", "/proc/self/oom_score_adj"}},
		{"env", []string{"env"}},
	} {
		fmt.Println(c.title)
		var out bytes.Buffer
		if _, err := sb.Run(context.Background(), &sandbox.Cmd{Args: c.args, ExtraFiles: []*os.File{program}, Stdout: &out}); err != nil {
			return err
		}
		fmt.Println(strings.TrimSpace(out.String()))
	}
	own, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return err
	}
	nice, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	fmt.Printf("own\n%s %d\n", strings.TrimSpace(string(own)), 20-nice)
	return errors.Join(err, sb.Close(), st.Close())
}

// An embedder becomes not dumpable by os/exec with a Credential; /proc/self is
// then the machine's root's.
func TestNotDumpable(t *testing.T) {
	testenv.Root(t)
	escape.Program(t)
	lines := newEmbedder("not dumpable", t.TempDir(), "").start(t).end(t)
	require.Len(t, lines, 3)
	require.Equal(t, "false <nil>", lines[0], "the control is dumpable")
	if !entersClock() {
		require.Contains(t, lines[1], "a clock of its own")
		require.Equal(t, "false <nil>", lines[2])
		return
	}
	uptime, err := strconv.Atoi(lines[1])
	require.NoError(t, err)
	require.Greater(t, uptime, 100*24*3600)
	require.Equal(t, "false <nil>", lines[2])
}

func playNotDumpable(dir string) error {
	cmd := exec.Command("true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 60001, Gid: 60001}}
	if err := cmd.Run(); err != nil {
		return err
	}
	dumpable := func() {
		n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		fmt.Println(n == 1, err)
	}
	dumpable()
	st, err := sandbox.Open(dir)
	if err != nil {
		return err
	}
	sb := sandbox.New(sandbox.Options{Store: st, Clock: &sandbox.Clock{Boottime: 100 * 24 * time.Hour}})
	out, err := sb.Output(context.Background(), sandbox.Command("cut", "-d.", "-f1", "/proc/uptime"))
	if errors.Is(err, errors.ErrUnsupported) {
		out, err = []byte(err.Error()), nil
	}
	fmt.Println(strings.TrimSpace(string(out)))
	dumpable()
	return errors.Join(err, sb.Close(), st.Close())
}
