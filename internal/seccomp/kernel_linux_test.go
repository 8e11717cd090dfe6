package seccomp

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

//go:embed testdata/calls.c
var callsSource string

// do makes calls ("NUMBER:ARG0:…") under a filter and returns what each came to.
func do(t *testing.T, code []unix.SockFilter, calls []string) map[string]string {
	t.Helper()
	cmd := exec.Command(testenv.C(t, callsSource), calls...)
	var in, out bytes.Buffer
	require.NoError(t, binary.Write(&in, binary.LittleEndian, code))
	cmd.Stdin, cmd.Stdout = &in, &out
	require.NoError(t, cmd.Run())
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, len(calls))
	results := map[string]string{}
	for i, c := range calls {
		results[c] = lines[i]
	}
	return results
}

// pastFilters are uretprobe and uprobe, which the kernel's own trampolines make: it asks no filter (kernel/seccomp.c, 6.11).
var pastFilters = []uint32{335, 336}

// TestKernel: what the filters refuse the kernel refuses.
func TestKernel(t *testing.T) {
	for name, p := range own(t) {
		f, err := p.Compile(Machine)
		require.NoError(t, err)
		var calls []string
		want := map[string]string{}
		audit := machines()[Machine][0].audit
		for nr := range uint32(600) {
			a := interpret(t, f.Code, call{arch: audit, number: nr})
			if a.kind() != unix.SECCOMP_RET_ERRNO || Machine == "amd64" && slices.Contains(pastFilters, nr) {
				continue
			}
			c := fmt.Sprint(nr)
			calls = append(calls, c)
			want[c] = fmt.Sprint(-int(uint32(a) & unix.SECCOMP_RET_DATA))
		}
		require.Greater(t, len(calls), 50)
		for c, got := range do(t, f.Code, calls) {
			require.Equal(t, want[c], got, "%s: call %s", name, c)
		}
	}
}

// TestKernelArguments: calls with arguments, of other archs and with numbers that nobody has.
func TestKernelArguments(t *testing.T) {
	const (
		upper   = 1 << 32
		tiocsti = unix.TIOCSTI
	)
	amd64 := Machine == "amd64"
	eperm, enosys, sigsys := fmt.Sprint(-int(unix.EPERM)), fmt.Sprint(-int(unix.ENOSYS)), fmt.Sprintf("signal %d", unix.SIGSYS)
	ebadf, efault, esrch := fmt.Sprint(-int(unix.EBADF)), fmt.Sprint(-int(unix.EFAULT)), fmt.Sprint(-int(unix.ESRCH))
	for _, c := range []struct {
		nr                   uint64
		args                 []uint64
		deflt, strict, dockr string // "": allowed, and it works
	}{
		{unix.SYS_GETPGID, nil, "", "", ""},
		{unix.SYS_CLONE3, nil, enosys, enosys, enosys},
		{5000, nil, enosys, enosys, enosys},
		{unix.SYS_CLONE, []uint64{unix.CLONE_NEWUSER | uint64(unix.SIGCHLD)}, eperm, eperm, eperm},
		{unix.SYS_SOCKET, []uint64{unix.AF_UNIX, unix.SOCK_STREAM}, "", "", ""},
		{unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_STREAM}, "", eperm, ""},
		{unix.SYS_SOCKET, []uint64{unix.AF_NETLINK, unix.SOCK_RAW}, "", eperm, ""},
		{unix.SYS_SOCKET, []uint64{unix.AF_ALG, unix.SOCK_SEQPACKET}, eperm, eperm, eperm},
		{unix.SYS_SOCKET, []uint64{unix.AF_ALG | upper, unix.SOCK_SEQPACKET}, eperm, eperm, eperm},
		{unix.SYS_SOCKET, []uint64{unix.AF_VSOCK, unix.SOCK_STREAM}, eperm, eperm, eperm},
		{unix.SYS_SOCKET, []uint64{unix.AF_UNIX | upper, unix.SOCK_STREAM}, eperm, eperm, eperm},
		{unix.SYS_IOCTL, []uint64{99, tiocsti}, eperm, eperm, ebadf},
		{unix.SYS_IOCTL, []uint64{99, tiocsti | upper}, eperm, eperm, ebadf},
		{unix.SYS_IOCTL, []uint64{99, unix.TCGETS}, ebadf, ebadf, ebadf},
		{unix.SYS_FCNTL, []uint64{99, unix.F_SETLEASE | upper}, eperm, eperm, ebadf},
		{unix.SYS_FCNTL, []uint64{99, unix.F_GETFL}, ebadf, ebadf, ebadf},
		{unix.SYS_PRCTL, []uint64{unix.PR_SET_PDEATHSIG}, "", eperm, ""},
		{unix.SYS_PRCTL, []uint64{unix.PR_SET_PDEATHSIG | upper}, "", eperm, ""},
		{unix.SYS_PRCTL, []uint64{unix.PR_GET_DUMPABLE}, "", "", ""},
		{unix.SYS_PERSONALITY, []uint64{0xffffffff}, "", "", ""},
		{unix.SYS_PERSONALITY, []uint64{0}, "", eperm, ""},
		{unix.SYS_PERSONALITY, []uint64{0x0040000}, eperm, eperm, eperm}, // ADDR_NO_RANDOMIZE
		{unix.SYS_PTRACE, []uint64{unix.PTRACE_TRACEME}, "", eperm, ""},
		{unix.SYS_PTRACE, []uint64{unix.PTRACE_SEIZE, 1 << 30, 0, unix.PTRACE_O_TRACECLONE}, esrch, eperm, esrch},
		{unix.SYS_PTRACE, []uint64{unix.PTRACE_SEIZE, 1 << 30, 0, unix.PTRACE_O_TRACEEXIT}, eperm, eperm, esrch},
		{unix.SYS_PTRACE, []uint64{unix.PTRACE_SEIZE, 1 << 30, 0, unix.PTRACE_O_TRACEEXIT | unix.PTRACE_O_EXITKILL | upper}, eperm, eperm, esrch},
		{unix.SYS_PTRACE, []uint64{unix.PTRACE_SETOPTIONS | upper, 1 << 30, 0, unix.PTRACE_O_TRACEEXIT}, eperm, eperm, esrch},
		{unix.SYS_PTRACE, []uint64{unix.PTRACE_SETOPTIONS, 1 << 30, 0, unix.PTRACE_O_TRACESYSGOOD}, esrch, eperm, esrch},
		{unix.SYS_PTRACE, []uint64{21, 1 << 30, 0, unix.PTRACE_O_TRACEEXIT}, eperm, eperm, esrch},
		{unix.SYS_PTRACE, []uint64{unix.PTRACE_CONT, 1 << 30, 0, unix.PTRACE_O_TRACEEXIT}, esrch, eperm, esrch},
		{unix.SYS_SYNCFS, []uint64{99}, ebadf, "", ebadf},
		{unix.SYS_SIGNALFD4, nil, fmt.Sprint(-int(unix.EINVAL)), fmt.Sprint(-int(unix.EINVAL)), fmt.Sprint(-int(unix.EINVAL))},
		{unix.SYS_PIPE2, nil, efault, efault, efault},
		{unix.SYS_SHMGET, nil, fmt.Sprint(-int(unix.EINVAL)), eperm, fmt.Sprint(-int(unix.EINVAL))},
	} {
		text := fmt.Sprint(c.nr)
		for _, a := range c.args {
			text += fmt.Sprintf(":%#x", a)
		}
		for want, profile := range map[*string]func([]string) (*Profile, error){&c.deflt: Default, &c.strict: Strict, &c.dockr: Docker} {
			p, err := profile(caps)
			require.NoError(t, err)
			f, err := p.Compile(Machine)
			require.NoError(t, err)
			got := do(t, f.Code, []string{text})[text]
			if *want == "" {
				require.Regexp(t, "^[0-9]+$", got, "%s: %s", p.Name, text)
			} else {
				require.Equal(t, *want, got, "%s: %s", p.Name, text)
			}
		}
	}
	if !amd64 {
		return
	}
	const getpid386, x32getpid = "i386:20", "0x40000027"
	for _, profile := range []func([]string) (*Profile, error){Default, Strict, Docker} {
		p, err := profile(caps)
		require.NoError(t, err)
		f, err := p.Compile(Machine)
		require.NoError(t, err)
		got := do(t, f.Code, []string{getpid386, x32getpid})
		if p.Name == "docker" {
			require.Regexp(t, "^[0-9]+$", got[getpid386])
			require.NotEqual(t, sigsys, got[x32getpid])
		} else {
			require.Equal(t, map[string]string{getpid386: sigsys, x32getpid: sigsys}, got, p.Name)
		}
	}
}

// TestKernelTakes: the kernel takes every filter that Compile makes.
func TestKernelTakes(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 3))
		p, err := fromOCI(randomProfile(rng, 10+int(seed)*6))
		if err != nil {
			continue // contradictory
		}
		p.rules["exit_group"], p.rules["restart_syscall"] = nil, nil
		p.other = allow
		f, err := p.Compile(Machine)
		require.NoError(t, err)
		got := do(t, f.Code, []string{fmt.Sprint(unix.SYS_RESTART_SYSCALL)})
		require.Equal(t, map[string]string{fmt.Sprint(unix.SYS_RESTART_SYSCALL): fmt.Sprint(-int(unix.EINTR))}, got)
	}
}
