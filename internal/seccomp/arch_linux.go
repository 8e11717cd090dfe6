package seccomp

import (
	_ "embed"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// An arch is a way in which programs make system calls.
type arch struct {
	name  specs.Arch
	audit uint32 // in struct seccomp_data
	bits  int    // of an argument that are compared
	// from is the first number; calls of x32 are those of x86_64 with a bit set.
	from    uint32
	numbers map[string]uint32
}

// Machine is the GOARCH that Compile makes filters for on this machine.
const Machine = runtime.GOARCH

// machines are the archs of a machine by GOARCH, its own first.
var machines = sync.OnceValue(func() map[string][]arch {
	t := parseNumbers()
	return map[string][]arch{
		"amd64": {
			{specs.ArchX86_64, unix.AUDIT_ARCH_X86_64, 64, 0, t["amd64"]},
			{specs.ArchX86, unix.AUDIT_ARCH_I386, 32, 0, t["386"]},
			{specs.ArchX32, unix.AUDIT_ARCH_X86_64, 32, x32Bit, x32(t["amd64"])},
		},
		"arm64": {
			{specs.ArchAARCH64, unix.AUDIT_ARCH_AARCH64, 64, 0, t["arm64"]},
			{specs.ArchARM, unix.AUDIT_ARCH_ARM, 32, 0, t["arm"]},
		},
	}
})

// known says whether a system call of this name exists on any machine.
func known(name string) bool {
	parseNumbers()
	return names[name]
}

// columns are the GOARCHs of numbers.txt.
var columns = []string{"amd64", "386", "arm64", "arm"}

//go:embed numbers.txt
var numbersText string

var names map[string]bool

// parseNumbers returns the numbers by GOARCH and name.
var parseNumbers = sync.OnceValue(func() map[string]map[string]uint32 {
	t := map[string]map[string]uint32{}
	for _, c := range columns {
		t[c] = map[string]uint32{}
	}
	names = map[string]bool{}
	for line := range strings.Lines(numbersText) {
		name, fields, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "#" {
			continue
		}
		names[name] = true
		for i, field := range strings.Fields(fields) {
			if field == "-" {
				continue
			}
			nr, err := strconv.ParseUint(field, 10, 32)
			if err != nil {
				panic(fmt.Sprintf("BUG(sandbox): numbers.txt: %q: %v", line, err))
			}
			t[columns[i]][name] = uint32(nr)
		}
	}
	for i, name := range armOwn {
		names[name] = true
		t["arm"][name] = armPrivate + 1 + uint32(i)
	}
	return t
})

// armPrivate is before the numbers of calls that only 32-bit ARM has (__ARM_NR_BASE in arch/arm/include/uapi/asm/unistd.h).
const armPrivate = 0x0f_0000

var armOwn = []string{"breakpoint", "cacheflush", "usr26", "usr32", "set_tls"}

// x32Bit marks the calls of x32 (__X32_SYSCALL_BIT).
const x32Bit = 0x4000_0000

// x32Own are calls whose structures x32 has in other sizes, in the order of their numbers, from 512 on
// (arch/x86/entry/syscalls/syscall_64.tbl).
var x32Own = []string{
	"rt_sigaction", "rt_sigreturn", "ioctl", "readv", "writev", "recvfrom", "sendmsg", "recvmsg", "execve", "ptrace",
	"rt_sigpending", "rt_sigtimedwait", "rt_sigqueueinfo", "sigaltstack", "timer_create", "mq_notify", "kexec_load",
	"waitid", "set_robust_list", "get_robust_list", "vmsplice", "move_pages", "preadv", "pwritev", "rt_tgsigqueueinfo",
	"recvmmsg", "sendmmsg", "process_vm_readv", "process_vm_writev", "setsockopt", "getsockopt", "io_setup", "io_submit",
	"execveat", "preadv2", "pwritev2",
}

// notX32 are calls of x86_64 alone.
var notX32 = []string{
	"_sysctl", "create_module", "epoll_ctl_old", "epoll_wait_old", "get_kernel_syms", "get_thread_area", "nfsservctl",
	"query_module", "set_thread_area", "uselib", "vserver",
}

func x32(amd64 map[string]uint32) map[string]uint32 {
	numbers := map[string]uint32{}
	for name, nr := range amd64 {
		numbers[name] = x32Bit | nr
	}
	for i, name := range x32Own {
		numbers[name] = x32Bit | uint32(512+i)
	}
	for _, name := range notX32 {
		delete(numbers, name)
	}
	return numbers
}
