package escape

import (
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

func hex(n int) string { return "0x" + strconv.FormatInt(int64(n), 16) }

// call makes the arguments of a plain system call.
func call(nr int, args ...string) []string {
	return append([]string{"call", strconv.Itoa(nr)}, args...)
}

func open(path string) []string { return []string{"open_w", path} }

// Vectors are those that need nobody else: a sandbox, alone.
var Vectors = slices.Concat(everywhere, ofMachine)

var everywhere = []Vector{
	// Mounts.
	{Name: "mount", Args: []string{"mount", "tmpfs", "/tmp"}, Want: "EPERM"},
	{Name: "mount proc", Args: []string{"mount", "proc", "/tmp"}, Want: "EPERM"},
	{Name: "mount cgroup", Args: []string{"mount", "cgroup2", "/tmp"}, Want: "EPERM"}, // release_agent
	{Name: "bind", Args: []string{"bind", "/usr", "/tmp"}, Want: "EPERM"},
	{Name: "remount", Args: []string{"remount", "/"}, Want: "EPERM"},
	{Name: "remount sysctls", Args: []string{"remount", "/proc/sys"}, Want: "EPERM"},
	{Name: "propagation", Args: []string{"shared"}, Want: "EPERM"},
	{Name: "umount mask", Args: []string{"umount", "/proc/keys"}, Want: "EPERM"},
	{Name: "umount proc", Args: []string{"umount", "/proc"}, Want: "EPERM"},
	{Name: "fsopen", Args: []string{"fsopen"}, Want: "EPERM"},
	{Name: "open_tree", Args: []string{"open_tree"}, Want: "EPERM"},
	{Name: "mount_setattr", Args: []string{"mount_setattr", "/"}, Want: "EPERM|ENOSYS"},
	{Name: "pivot_root", Args: []string{"pivot_root", "/tmp"}, Want: "EPERM"},
	{Name: "open_by_handle_at", Args: []string{"handle", "/dev/shm"}, Want: "EPERM", Control: Root}, // shocker
	{Name: "quotactl", Args: []string{"quota"}, Want: "EPERM", Bare: "EPERM|ok|ENOSYS", Control: Root, Reaches: "ok|ENOSYS"},
	{Name: "swapoff", Args: []string{"swapoff"}, Want: "EPERM", Control: Root, Reaches: "ENOENT"},
	{Name: "mknod of a disk", Args: []string{"mknod", "/tmp/escape-disk", "b", "8", "0"}, Want: "EPERM", Control: Root, Reaches: "ok|EEXIST"},
	{Name: "mknod of memory", Args: []string{"mknod", "/tmp/escape-mem", "c", "1", "1"}, Want: "EPERM", Control: Root, Reaches: "ok|EEXIST"},

	// Namespaces.
	{Name: "unshare user", Args: []string{"unshare", hex(unix.CLONE_NEWUSER)}, Want: "EPERM", Bare: "ENOSPC"},
	{Name: "unshare mount", Args: []string{"unshare", hex(unix.CLONE_NEWNS)}, Want: "EPERM"},
	{Name: "unshare pid", Args: []string{"unshare", hex(unix.CLONE_NEWPID)}, Want: "EPERM"},
	{Name: "unshare net", Args: []string{"unshare", hex(unix.CLONE_NEWNET)}, Want: "EPERM"},
	{Name: "unshare uts", Args: []string{"unshare", hex(unix.CLONE_NEWUTS)}, Want: "EPERM"},
	{Name: "unshare ipc", Args: []string{"unshare", hex(unix.CLONE_NEWIPC)}, Want: "EPERM"},
	{Name: "unshare cgroup", Args: []string{"unshare", hex(unix.CLONE_NEWCGROUP)}, Want: "EPERM"},
	{Name: "unshare time", Args: []string{"unshare", hex(unix.CLONE_NEWTIME)}, Want: "EPERM"},
	{Name: "clone user", Args: []string{"clone", hex(unix.CLONE_NEWUSER)}, Want: "EPERM", Bare: "ENOSPC"},
	{Name: "clone3 user", Args: []string{"clone3", hex(unix.CLONE_NEWUSER)}, Want: "ENOSYS", Bare: "ENOSPC"},
	{Name: "clone3 user and mount", Args: []string{"clone3", hex(unix.CLONE_NEWUSER | unix.CLONE_NEWNS)}, Want: "ENOSYS", Bare: "ENOSPC"},
	{Name: "clone3 mount", Args: []string{"clone3", hex(unix.CLONE_NEWNS)}, Want: "ENOSYS", Bare: "EPERM"},
	{Name: "setns mount", Args: []string{"setns", "/proc/self/ns/mnt", hex(unix.CLONE_NEWNS)}, Want: "EPERM", Control: Root},
	{Name: "setns net", Args: []string{"setns", "/proc/self/ns/net", hex(unix.CLONE_NEWNET)}, Want: "EPERM", Control: Root},
	{Name: "sethostname", Args: []string{"sethostname"}, Want: "EPERM"},
	{Name: "setdomainname", Args: []string{"setdomainname"}, Want: "EPERM"},

	// Kernel interfaces that no namespace covers, and large ones.
	{Name: "io_uring", Args: call(unix.SYS_IO_URING_SETUP, "4", "p"), Want: "EPERM", Bare: "ok", Control: Unfiltered},
	{Name: "userfaultfd", Args: call(unix.SYS_USERFAULTFD, "1"), Want: "EPERM", Bare: "ok|EINVAL", Control: Unfiltered},
	{Name: "keyctl", Args: call(unix.SYS_KEYCTL, "1", "0"), Want: "EPERM", Bare: "ok", Control: Unfiltered},
	{Name: "add_key", Args: []string{"add_key", "escape"}, Want: "EPERM", Bare: "ok|EDQUOT", Control: Unfiltered},
	{Name: "request_key", Args: call(unix.SYS_REQUEST_KEY, "p", "p", "0", "0"), Want: "EPERM", Bare: "EINVAL|ENOENT|ENOKEY", Control: Unfiltered},
	{Name: "bpf", Args: []string{"bpf"}, Want: "EPERM", Control: Root},
	{Name: "perf_event_open", Args: []string{"perf"}, Want: "EPERM", Bare: "EACCES", Control: Root},
	{Name: "kcmp", Args: []string{"kcmp"}, Want: "EPERM", Bare: "ok|ENOSYS", Control: Unfiltered},
	{Name: "memfd_secret", Args: call(unix.SYS_MEMFD_SECRET, "0"), Want: "EPERM|ENOSYS", Bare: "ok|ENOSYS", Control: Unfiltered},
	{Name: "set_mempolicy", Args: call(unix.SYS_SET_MEMPOLICY, "0", "0", "0"), Want: "EPERM", Bare: "ok|ENOSYS", Control: Unfiltered},
	{Name: "fanotify_init", Args: call(unix.SYS_FANOTIFY_INIT, "0", "0"), Want: "EPERM", Bare: "EPERM|EINVAL", Control: Root},
	{Name: "pidfd_getfd", Args: []string{"pidfd_getfd", "1"}, Want: "EPERM", Bare: "ok|EBADF", Control: Unfiltered},
	{Name: "ASLR off", Args: call(unix.SYS_PERSONALITY, "0x0040000"), Want: "EPERM", Bare: "ok", Control: Unfiltered},
	{Name: "executable data", Args: call(unix.SYS_PERSONALITY, "0x0400000"), Want: "EPERM", Bare: "ok", Control: Unfiltered},
	{Name: "lease", Args: []string{"lease", "/tmp/escape-lease"}, Want: "EPERM", Bare: "ok", Control: Unfiltered},
	{Name: "typing into a terminal", Args: []string{"terminal", hex(unix.TIOCSTI)}, Want: "EPERM", Bare: "ok|EIO", Control: Unfiltered},
	{Name: "console's clipboard", Args: []string{"terminal", hex(unix.TIOCLINUX)}, Want: "EPERM", Bare: "ENOTTY", Control: Unfiltered},
	{Name: "acct", Args: call(unix.SYS_ACCT, "0"), Want: "EPERM", Bare: "EPERM|ENOSYS", Control: Root, Reaches: "ok|ENOSYS"},
	{Name: "reboot", Args: call(unix.SYS_REBOOT, "0", "0", "0"), Want: "EPERM", Control: Root, Reaches: "EINVAL"},
	{Name: "kexec_load", Args: call(unix.SYS_KEXEC_LOAD, "0", "17", "p", "0xff"), Want: "EPERM", Bare: "EPERM|ENOSYS", Control: Root, Reaches: "EINVAL|ENOSYS|EPERM"},
	{Name: "delete_module", Args: call(unix.SYS_DELETE_MODULE, "p", "0"), Want: "EPERM", Bare: "EPERM|ENOSYS", Control: Root, Reaches: "ENOENT|ENOSYS"},
	{Name: "init_module", Args: call(unix.SYS_INIT_MODULE, "p", "0", "p"), Want: "EPERM", Bare: "EPERM|ENOSYS", Control: Root, Reaches: "ENOEXEC|ENOSYS"},
	{Name: "vhangup", Args: call(unix.SYS_VHANGUP), Want: "EPERM", Control: Root},
	{Name: "syslog", Args: []string{"klog"}, Want: "EPERM", Bare: "EPERM|ok", Control: Root},
	{Name: "settime", Args: []string{"settime"}, Want: "EPERM", Control: Root},
	{Name: "adjtimex", Args: []string{"frequency"}, Want: "EPERM", Control: Root},

	// Sockets.
	{Name: "raw socket", Args: []string{"raw"}, Want: "EPERM"},
	{Name: "packet socket", Args: []string{"packet"}, Want: "EPERM"},
	{Name: "vsock", Args: call(unix.SYS_SOCKET, strconv.Itoa(unix.AF_VSOCK), "1", "0"), Want: "EPERM", Bare: "ok|EAFNOSUPPORT", Control: Unfiltered},
	{Name: "crypto socket", Args: call(unix.SYS_SOCKET, strconv.Itoa(unix.AF_ALG), "5", "0"), Want: "EPERM", Bare: "ok|EAFNOSUPPORT", Control: Unfiltered},
	{Name: "XDP socket", Args: call(unix.SYS_SOCKET, strconv.Itoa(unix.AF_XDP), "3", "0"), Want: "EPERM", Bare: "EPERM|EAFNOSUPPORT", Control: Namespaces, Reaches: "ok|EAFNOSUPPORT"},
	{Name: "bluetooth socket", Args: call(unix.SYS_SOCKET, strconv.Itoa(unix.AF_BLUETOOTH), "3", "1"), Want: "EPERM", Bare: "ok|EAFNOSUPPORT|EPROTONOSUPPORT", Control: Unfiltered},
	{Name: "TIPC pair", Args: call(unix.SYS_SOCKETPAIR, strconv.Itoa(unix.AF_TIPC), "1", "0", "p"), Want: "EPERM", Bare: "ok|EAFNOSUPPORT", Control: Unfiltered},
	{Name: "a link of its own", Args: []string{"route", strconv.Itoa(unix.RTM_NEWLINK)}, Want: "EPERM", Reaches: "ok|EOPNOTSUPP"},
	{Name: "buffers over the limit", Args: []string{"sockopt", strconv.Itoa(unix.SOL_SOCKET), strconv.Itoa(unix.SO_RCVBUFFORCE)}, Want: "EPERM", Control: Root},
	{Name: "packet marks", Args: []string{"sockopt", strconv.Itoa(unix.SOL_SOCKET), strconv.Itoa(unix.SO_MARK)}, Want: "EPERM"},
	{Name: "any source address", Args: []string{"sockopt", strconv.Itoa(unix.IPPROTO_IP), strconv.Itoa(unix.IP_TRANSPARENT)}, Want: "EPERM"},
	{Name: "an address outside", Args: []string{"connect_out", "192.0.2.1"}, Want: "ENETUNREACH|EPERM", Control: Nobody, Reaches: "ok|ENETUNREACH"},
	{Name: "a cloud's metadata", Args: []string{"connect_out", "169.254.169.254"}, Want: "ENETUNREACH|EPERM", Control: Nobody, Reaches: "ok|ENETUNREACH"},

	// Privileges.
	{Name: "capability back", Args: []string{"capset"}, Want: "EPERM"},
	{Name: "ambient capability", Args: []string{"ambient"}, Want: "EPERM"},
	{Name: "securebits", Args: []string{"securebits"}, Want: "EPERM"},
	{Name: "own memory map", Args: []string{"mm"}, Want: "EPERM", Control: Root, Reaches: "EINVAL|EPERM|ok"},
	{Name: "fifo scheduling", Args: []string{"fifo"}, Want: "EPERM", Control: Root},
	{Name: "deadline scheduling", Args: []string{"deadline"}, Want: "EPERM", Control: Root, Reaches: "ok|EBUSY"},
	{Name: "realtime disk priority", Args: []string{"ioprio"}, Want: "EPERM", Control: Root},
	{Name: "nice -5", Args: []string{"nice"}, Want: "EACCES", Control: Root},
	{Name: "raise RLIMIT_CORE", Args: []string{"core"}, Want: "EPERM", Control: Nobody},
	{Name: "memory locked beyond the limit", Args: []string{"mlock"}, Want: "ENOMEM|EPERM|EAGAIN", Control: Root},
	{Name: "OOM killer away from it", Args: []string{"oom"}, Want: "EACCES", Control: Root, Reaches: "ok|EACCES"},

	// Files of the kernel's.
	{Name: "core_pattern", Args: open("/proc/sys/kernel/core_pattern"), Want: "EACCES", Control: Root},
	{Name: "core_uses_pid", Args: open("/proc/sys/kernel/core_uses_pid"), Want: "EACCES", Control: Root},
	{Name: "modprobe", Args: open("/proc/sys/kernel/modprobe"), Want: "EACCES|ENOENT", Control: Root, Reaches: "ok|ENOENT"},
	{Name: "overcommit", Args: open("/proc/sys/vm/overcommit_memory"), Want: "EACCES", Control: Root},
	{Name: "drop_caches", Args: open("/proc/sys/vm/drop_caches"), Want: "EACCES", Control: Root},
	{Name: "own ip_forward", Args: open("/proc/sys/net/ipv4/ip_forward"), Want: "EACCES"},
	{Name: "own max_user_namespaces", Args: open("/proc/sys/user/max_user_namespaces"), Want: "EACCES"},
	{Name: "own hostname", Args: open("/proc/sys/kernel/hostname"), Want: "EACCES", Control: Root},
	{Name: "own shmmax", Args: open("/proc/sys/kernel/shmmax"), Want: "EROFS"},
	{Name: "own msg_max", Args: open("/proc/sys/fs/mqueue/msg_max"), Want: "EROFS"},
	{Name: "sysrq-trigger", Args: open("/proc/sysrq-trigger"), Want: "EACCES|EROFS|ENOENT", Control: Root, Reaches: "ok|ENOENT"},
	{Name: "irq", Args: open("/proc/irq/default_smp_affinity"), Want: "EACCES", Control: Root},
	{Name: "mtrr", Args: open("/proc/mtrr"), Want: "EACCES|ENOENT", Control: Root, Reaches: "ok|ENOENT"},
	{Name: "kcore", Args: []string{"empty", "/proc/kcore"}, Want: "ok|ENOENT|EACCES", Control: Root, Reaches: "EEXIST|ENOENT"},
	{Name: "keys", Args: []string{"empty", "/proc/keys"}, Want: "ok", Control: Root, Reaches: "EEXIST"},
	{Name: "timer_list", Args: []string{"empty", "/proc/timer_list"}, Want: "ok|EACCES", Control: Root, Reaches: "EEXIST"},
	{Name: "slabinfo", Args: []string{"open_r", "/proc/slabinfo"}, Want: "EACCES|ENOENT", Control: Root, Reaches: "ok|ENOENT"},
	{Name: "vmallocinfo", Args: []string{"open_r", "/proc/vmallocinfo"}, Want: "EACCES", Control: Root},
	{Name: "kpageflags", Args: []string{"open_r", "/proc/kpageflags"}, Want: "EACCES|ENOENT", Control: Root, Reaches: "ok|ENOENT"},
	{Name: "kmsg", Args: []string{"open_r", "/proc/kmsg"}, Want: "EACCES", Control: Root},
	{Name: "sys", Args: open("/sys/power/state"), Want: "EACCES|EROFS", Control: Root},
	{Name: "uevent", Args: open("/sys/class/mem/null/uevent"), Want: "EACCES|EROFS", Control: Root},
	{Name: "uevent_helper", Args: open("/sys/kernel/uevent_helper"), Want: "EACCES|EROFS|ENOENT", Control: Root, Reaches: "ok|ENOENT"},
	{Name: "debugfs", Args: []string{"open_r", "/sys/kernel/debug/sleep_time"}, Want: "ENOENT|EACCES", Control: Root, Reaches: "ok|ENOENT"},
	{Name: "cgroups", Args: []string{"open_r", "/sys/fs/cgroup/cgroup.procs"}, Want: "ENOENT", Control: Root, Reaches: "ok|ENOENT"},
	{Name: "memory", Args: []string{"open_r", "/dev/mem"}, Want: "ENOENT", Control: Root, Reaches: "ok|ENOENT|EPERM"},
	{Name: "kvm", Args: []string{"open_r", "/dev/kvm"}, Want: "ENOENT", Control: Root, Reaches: "ok|ENOENT|ENODEV"},
	{Name: "fuse", Args: []string{"open_r", "/dev/fuse"}, Want: "ENOENT", Control: Root, Reaches: "ok|ENOENT|ENODEV"},
	{Name: "tun", Args: []string{"open_r", "/dev/net/tun"}, Want: "ENOENT", Control: Root, Reaches: "ok|ENOENT|ENODEV"},
	{Name: "kernel's messages", Args: []string{"open_r", "/dev/kmsg"}, Want: "ENOENT", Control: Root, Reaches: "ok|ENOENT"},
	{Name: "console", Args: open("/dev/console"), Want: "ENOENT", Control: Root, Reaches: "ok|ENOENT|EIO|ENXIO|ENODEV"},
	{Name: "loop devices", Args: []string{"open_r", "/dev/loop-control"}, Want: "ENOENT", Control: Root, Reaches: "ok|ENOENT"},

	// Files of the host's.
	{Name: "write passwd", Args: open("/etc/passwd"), Want: "EACCES|EROFS", Control: Root, Host: true},
	{Name: "write a program", Args: open("/usr/bin/env"), Want: "EACCES|EROFS", Control: Root, Reaches: "ok|ETXTBSY", Host: true},
	{Name: "private file", Args: []string{"open_r", "/etc/shadow"}, Want: "ENOENT|EACCES", Control: Root, Host: true},
	{Name: "root's home", Args: []string{"open_r", "/root/.profile"}, Want: "ENOENT", Control: Root, Reaches: "ok|ENOENT", Host: true},
	{Name: "Docker's socket", Args: []string{"open_r", "/run/docker.sock"}, Want: "ENOENT", Control: Root, Reaches: "ENXIO|ENOENT", Host: true},
	{Name: "D-Bus", Args: []string{"open_r", "/run/dbus/system_bus_socket"}, Want: "ENOENT", Control: Root, Reaches: "ENXIO|ENOENT", Host: true},
}
