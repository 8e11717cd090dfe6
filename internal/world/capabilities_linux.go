package world

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// A CapSet is a set of capabilities, the bit 1<<n for the one with the number n.
type CapSet uint64

// DefaultCapabilities are enough for an entrypoint that changes owners and drops
// to a user.
const DefaultCapabilities CapSet = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID |
	1<<unix.CAP_KILL | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_NET_BIND_SERVICE | 1<<unix.CAP_SYS_CHROOT

// NestingCapability is what root of the World needs to map itself into a user namespace within (Linux 5.12,
// user_namespaces(7)).
const NestingCapability CapSet = 1 << unix.CAP_SETFCAP

// ParseCapabilities reads names with commas between them. "" is the default, "none" none.
func ParseCapabilities(text string) (set CapSet, err error) {
	switch text {
	case "":
		return DefaultCapabilities, nil
	case "none":
		return 0, nil
	}
	for name := range strings.SplitSeq(text, ",") {
		n := slices.Index(capNames, strings.TrimSpace(name))
		switch {
		case n < 0:
			return 0, fmt.Errorf("%q is no capability: they are CAP_CHOWN and so on, see capabilities(7)", name)
		case n == unix.CAP_SYS_ADMIN:
			// The masks over /proc and read-only mounts are the sandbox's own: it could take them away.
			return 0, fmt.Errorf("%s would let a command undo its sandbox's mounts", name)
		}
		set |= 1 << n
	}
	return set, nil
}

// Names returns those of the capabilities of a set that this kernel has.
func (s CapSet) Names() []string {
	var list []string
	for n, name := range capNames {
		if s&(1<<n) != 0 && n <= lastCap() {
			list = append(list, name)
		}
	}
	return list
}

// capNames are the names of capabilities by their numbers (Linux 5.9).
var capNames = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST",
	"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO",
	"CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE",
	"CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// lastCap is the highest capability that this kernel has.
var lastCap = sync.OnceValue(func() int {
	b, _ := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
		return n
	}
	return unix.CAP_LAST_CAP
})

// keep drops all capabilities but those of s from the bounding set only: the exec
// takes them out of the other sets (capabilities(7)). A capset before the exec would
// let the command regain PR_SET_PDEATHSIG's clearing exec.
func (s CapSet) keep(p *spawn.Program) {
	for n := 0; n <= lastCap(); n++ {
		if s&(1<<n) == 0 {
			p.Do("prctl PR_CAPBSET_DROP", strconv.Itoa(n), unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, n, 0, 0, 0)
		}
	}
}
