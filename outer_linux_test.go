package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/escape"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// What an ordinary container of Docker's does to its programs, each of which
// the option of that name takes away.
const (
	seccomp     = "seccomp"     // the default profile, as far as it concerns us
	systempaths = "systempaths" // parts of /proc and /sys masked or read-only
)

// An embedder in a container's place says what is missing, of all options at once.
func TestOuterContainer(t *testing.T) {
	testenv.Root(t)
	escape.Program(t)
	for _, c := range []struct {
		given string // what the container does
		says  []string
	}{
		{seccomp + " " + systempaths, []string{"--security-opt seccomp=unconfined", "--security-opt systempaths=unconfined"}},
		{seccomp, []string{"--security-opt seccomp=unconfined"}},
		{systempaths, []string{"--security-opt systempaths=unconfined"}},
		{"", nil},
	} {
		for _, uid := range []int{0, 60001} {
			t.Run(fmt.Sprintf("%s user %d", c.given, uid), func(t *testing.T) {
				root := skeleton(t)
				dir := filepath.Dir(root) // the test's, which t.TempDir keeps to root
				require.NoError(t, errors.Join(os.Chmod(dir, 0o755), os.Rename(root, filepath.Join(dir, "rootfs")), os.Mkdir(root, 0o755)))
				require.NoError(t, exec.Command("chown", "-hR", fmt.Sprintf("%d:%d", uid, uid), root, filepath.Join(dir, "rootfs")).Run())
				lines := newEmbedder("container", root, strconv.Itoa(uid)+" "+c.given).start(t).end(t)
				text := strings.Join(lines, "\n")
				if c.says == nil {
					require.Equal(t, "1", lines[0])
					if uid == 0 { // the layers' ids can't be mapped
						require.Contains(t, lines[1], "unsupported: true")
						require.Contains(t, lines[1], "CAP_SYS_ADMIN")
						return
					}
					require.Equal(t, "1", lines[1])
					return
				}
				require.Contains(t, text, "unsupported: true")
				for _, option := range []string{"seccomp", "systempaths"} {
					option = "--security-opt " + option + "=unconfined"
					require.Equal(t, contains(c.says, option), strings.Contains(text, option), "%s in %s", option, text)
				}
			})
		}
	}
}

func contains(all []string, s string) bool {
	for _, a := range all {
		if a == s {
			return true
		}
	}
	return false
}

// playContainer puts itself into what a container is and then is an embedder there.
func playContainer(dir string) error {
	runtime.LockOSThread()
	text, given, _ := strings.Cut(os.Getenv(argEnv), " ")
	uid, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	steps := []func() error{}
	if strings.Contains(given, systempaths) {
		steps = append(steps, maskPaths)
	}
	steps = append(steps, dropCapabilities, func() error { return becomeUser(uintptr(uid)) })
	if strings.Contains(given, seccomp) {
		steps = append(steps, installProfile)
	}
	for i, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("the container's step %d: %w", i, err)
		}
	}
	// The life line is not closed on exec.
	if _, err := unix.FcntlInt(3, unix.F_SETFD, 0); err != nil {
		return err
	}
	if err := os.Setenv(roleEnv, "contained"); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
}

// playContained says what a sandbox says.
func playContained(dir string) error {
	st, err := sandbox.Open(dir)
	if err != nil {
		return err
	}
	for _, o := range []sandbox.Options{{Store: st}, {Store: st, Rootfs: filepath.Join(filepath.Dir(dir), "rootfs")}} {
		if _, err := os.Stat(o.Rootfs); o.Rootfs != "" && err != nil {
			continue
		}
		sb := sandbox.New(o)
		out, err := sb.Output(context.Background(), sandbox.Command("sh", "-c", "echo $$ >/tmp/x; cat /tmp/x"))
		if err != nil {
			fmt.Println("unsupported:", errors.Is(err, errors.ErrUnsupported), err)
		}
		fmt.Print(string(out))
		if err := sb.Close(); err != nil {
			return err
		}
	}
	return st.Close()
}

// becomeUser changes this thread's ids, and only those: it is to execute.
func becomeUser(uid uintptr) error {
	for _, c := range [][4]uintptr{{unix.SYS_SETGROUPS, 0, 0, 0}, {unix.SYS_SETRESGID, uid, uid, uid}, {unix.SYS_SETRESUID, uid, uid, uid}} {
		if _, _, errno := unix.RawSyscall(c[0], c[1], c[2], c[3]); errno != 0 {
			return errno
		}
	}
	return nil
}

// Docker's masked and read-only paths (moby, oci/defaults.go).
func maskPaths() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	errs := []error{unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")}
	for _, name := range []string{"/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/scsi", "/sys/firmware"} {
		info, err := os.Stat(name)
		switch {
		case err != nil: // this kernel has it not
		case info.IsDir():
			errs = append(errs, named(name, unix.Mount("tmpfs", name, "tmpfs", unix.MS_RDONLY, "")))
		default:
			errs = append(errs, named(name, unix.Mount("/dev/null", name, "", unix.MS_BIND, "")))
		}
	}
	for _, name := range []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/sys/fs/cgroup"} {
		if _, err := os.Stat(name); err == nil {
			errs = append(errs, named(name, unix.Mount(name, name, "", unix.MS_BIND|unix.MS_REC, "")),
				named(name, unix.Mount("", name, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")))
		}
	}
	return errors.Join(errs...)
}

func named(name string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// dropCapabilities leaves what Docker does (moby, oci/caps/defaults.go).
func dropCapabilities() error {
	keep := map[int]bool{}
	for _, c := range []int{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FSETID, unix.CAP_FOWNER, unix.CAP_MKNOD, unix.CAP_NET_RAW, unix.CAP_SETGID,
		unix.CAP_SETUID, unix.CAP_SETFCAP, unix.CAP_SETPCAP, unix.CAP_NET_BIND_SERVICE, unix.CAP_SYS_CHROOT, unix.CAP_KILL, unix.CAP_AUDIT_WRITE} {
		keep[c] = true
	}
	var data [2]unix.CapUserData
	for c := 0; c <= unix.CAP_LAST_CAP; c++ {
		if !keep[c] {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
				return err
			}
			continue
		}
		data[c/32].Effective |= 1 << (c % 32)
	}
	for i := range data {
		data[i].Permitted = data[i].Effective
	}
	return unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0])
}

// installProfile installs what Docker's default profile does without CAP_SYS_ADMIN
// (moby/profiles/seccomp): these calls are EPERM, clone3 is ENOSYS, and clone
// can't make namespaces.
func installProfile() error {
	const load, equal, set, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	eperm := unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)}
	enosys := unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)}
	allow := unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW}
	prog := []unix.SockFilter{{Code: load, K: 0}} // seccomp_data.nr
	for _, nr := range []uint32{unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT,
		unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR, unix.SYS_SETHOSTNAME, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_BPF} {
		prog = append(prog, unix.SockFilter{Code: equal, K: nr, Jf: 1}, eperm)
	}
	prog = append(prog, unix.SockFilter{Code: equal, K: unix.SYS_CLONE3, Jf: 1}, enosys,
		unix.SockFilter{Code: equal, K: unix.SYS_CLONE, Jf: 3},
		unix.SockFilter{Code: load, K: 16}, // the low half of the first argument
		unix.SockFilter{Code: set, K: 0x7e020000, Jf: 1}, eperm, allow)
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil { // Docker has the privilege to do without
		return err
	}
	p := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&p)))
	runtime.KeepAlive(prog)
	if errno != 0 {
		return errno
	}
	return nil
}

// Where user.max_user_namespaces is 0, the error says what to do. The sysctl is
// one of each user namespace: the test has its own.
func TestUserNamespacesOff(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		e := newEmbedder("namespaces off", t.TempDir(), "")
		e.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: os.Getgid(), Size: 1}},
			AmbientCaps: []uintptr{unix.CAP_SYS_RESOURCE},
		}
		lines := e.start(t).end(t)
		require.Len(t, lines, 2)
		require.Equal(t, "1", lines[0], "the control")
		require.Contains(t, lines[1], "unsupported: true")
		require.Contains(t, lines[1], "sysctl user.max_user_namespaces=")
	})
}

func playNamespacesOff(dir string) error {
	if err := playContained(dir); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		return err
	}
	return playContained(dir)
}
