package sandbox_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/escape"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
	"github.com/seed-5a9fb6e0/sandbox/internal/world"
)

func TestReadOnlyPlaces(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		require.Equal(t, "ok", escape.Outside(t, "create", filepath.Join(t.TempDir(), "new")), "the control")
		sb := box(t, sandbox.Options{})
		for _, dir := range []string{"/", "/usr", "/usr/lib", "/etc", "/dev", "/var", "/proc/sys", "/sys"} {
			require.Contains(t, []string{"EROFS", "EACCES", "ENOENT"}, inside(t, sb, "create", dir+"/new"), dir)
		}
		for i, dir := range []string{"/tmp", "/run", "/home", "/root", "/var/tmp", "/var/run", "/dev/shm"} {
			name := fmt.Sprintf("%s/new%d", dir, i)
			require.Equal(t, "ok", inside(t, sb, "create", name), dir)
			require.Equal(t, name, shell(t, sb, "ls "+name), "not there for the next command")
		}
		readOnly := box(t, sandbox.Options{Rootfs: skeleton(t), ReadOnly: true})
		for _, sb := range []*sandbox.Sandbox{sb, readOnly, box(t, sandbox.Options{Rootfs: skeleton(t)})} {
			require.Equal(t, "ok", inside(t, sb, "mq_create", "queue"))
			require.Equal(t, "ok", inside(t, sb, "open_r", "/dev/mqueue/queue"), "not there for the next command")
			require.Equal(t, "ok", inside(t, sb, "create", "/dev/shm/shared"))
		}
		for _, dir := range []string{"/", "/bin", "/etc", "/tmp", "/dev"} {
			require.Equal(t, "EROFS", inside(t, readOnly, "create", dir+"/new"), dir)
		}
	})
}

// Nothing of the host's private directories is there: what is, the sandbox made.
func TestNothingOfTheHost(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		marker := filepath.Join(t.TempDir(), "marker") // in the host's /tmp
		require.NoError(t, os.WriteFile(marker, nil, 0o644))
		require.Equal(t, "ok", escape.Outside(t, "open_r", marker), "the control")
		sb := box(t, sandbox.Options{Name: "alone"})
		require.Equal(t, "ENOENT", inside(t, sb, "open_r", marker))
		for dir, want := range map[string]string{
			"/": "bin dev etc home lib lib32 lib64 libx32 proc root run sbin sys tmp usr var", "/home": "root", "/root": "", "/run": "",
			"/tmp": "", "/var": "run tmp", "/var/tmp": "", "/dev/shm": "", "/dev/pts": "ptmx", "/sys/fs/cgroup": "", "/sys/kernel/debug": "",
		} {
			var expected []string
			for _, name := range strings.Fields(want) {
				if _, err := os.Lstat("/" + name); err == nil || dir != "/" {
					expected = append(expected, name)
				}
			}
			require.Equal(t, strings.Join(expected, " "), strings.Join(strings.Fields(shell(t, sb, "ls -A "+dir)), " "), dir)
		}
		require.Equal(t, "alone", shell(t, sb, "hostname"))
		require.Equal(t, "alone", shell(t, sb, "cat /etc/hostname"))
		require.Equal(t, "127.0.1.1\talone", shell(t, sb, "grep alone /etc/hosts"))
		for _, secret := range []string{"/etc/shadow", "/etc/gshadow", "/etc/subuid", "/etc/machine-id", "/etc/ssl/private", "/etc/ssh", "/boot", "/mnt", "/srv", "/opt"} {
			require.Equal(t, "ENOENT", inside(t, sb, "open_r", secret), secret)
		}
	})
}

func TestMaskedFiles(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		sb := box(t, sandbox.Options{})
		for _, name := range []string{"interrupts", "kcore", "keys", "latency_stats", "sched_debug", "timer_list", "timer_stats"} {
			name = "/proc/" + name
			if _, err := os.Lstat(name); err != nil {
				require.Equal(t, "ENOENT", inside(t, sb, "empty", name), name)
				continue
			}
			if os.Getuid() == 0 {
				require.Equal(t, "EEXIST", escape.Outside(t, "empty", name), "the control")
			}
			require.Contains(t, []string{"ok", "EACCES"}, inside(t, sb, "empty", name), name)
		}
		for _, dir := range []string{"/proc/acpi", "/proc/asound", "/proc/scsi"} {
			require.Equal(t, "", shell(t, sb, "ls "+dir+" 2>/dev/null || true"), dir)
		}
	})
}

// Only the command's own processes are in /proc, and PID 1 is it.
func TestProcesses(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		sb := box(t, sandbox.Options{})
		other := hold(t, sb) // in the same sandbox
		require.Equal(t, "1 2", shell(t, sb, "cd /proc; sleep 9 & echo [0-9]*"))
		require.Equal(t, "sh", shell(t, sb, "cat /proc/1/comm"))

		// What else runs has no number here.
		control := exec.Command(escape.Program(t), "hold")
		control.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		require.NoError(t, control.Start())
		t.Cleanup(func() { _ = control.Process.Kill(); _ = control.Wait() })
		for _, what := range []string{"ptrace", "readmem", "signal", "pidfd_getfd"} {
			pid := strconv.Itoa(control.Process.Pid)
			require.Equal(t, "ok", escape.Outside(t, what, pid), "the control")
			for _, pid := range []string{pid, strconv.Itoa(other.PID()), strconv.Itoa(os.Getpid())} {
				require.Contains(t, []string{"ESRCH", "EINVAL"}, inside(t, sb, what, pid), what)
			}
		}
		require.Equal(t, "ESRCH", inside(t, sb, "kill_all"), "there is somebody to be killed")
		require.NoError(t, other.Signal(0))
		require.NoError(t, control.Process.Signal(syscall.Signal(0)))
	})
}

// Root of a sandbox may do what an entrypoint needs, within its own user
// namespace, a user nothing; and nobody gains anything.
func TestCapabilities(t *testing.T) {
	const kept = "00000000000404fb"
	status := func(t *testing.T, sb *sandbox.Sandbox, user string) map[string]string {
		out := output(t, sb, &sandbox.Cmd{Args: []string{"cat", "/proc/self/status"}, User: user})
		found := map[string]string{}
		for line := range strings.Lines(out) {
			name, value, _ := strings.Cut(line, ":")
			found[name] = strings.TrimSpace(value)
		}
		return found
	}
	check := func(t *testing.T, got map[string]string, effective string) {
		for name, want := range map[string]string{"CapInh": noCaps, "CapPrm": effective, "CapEff": effective, "CapBnd": kept, "CapAmb": noCaps, "NoNewPrivs": "1"} {
			require.Equal(t, want, got[name], name)
		}
	}
	asRootAndUser(t, func(t *testing.T) {
		sb := box(t, sandbox.Options{Rootfs: skeleton(t)})
		check(t, status(t, sb, ""), kept)
		if os.Getuid() == 0 {
			got := status(t, sb, "user")
			check(t, got, noCaps)
			require.Equal(t, "1000\t1000\t1000\t1000", got["Uid"])
			require.Equal(t, "1000\t1000\t1000\t1000", got["Gid"])
			require.Equal(t, "2000", got["Groups"])
			require.Equal(t, "ok", inside(t, sb, "setuid", "1000"))
			require.Equal(t, "EPERM", output(t, sb, with(attemptCmd(t, "setuid", "0"), "user")))
			require.Equal(t, "EINVAL", inside(t, sb, "setuid", "70000"), "an id that is not mapped")
		} else {
			sb := box(t, sandbox.Options{Rootfs: skeleton(t), User: "1000"})
			check(t, status(t, sb, ""), noCaps)
		}
		for _, node := range []string{"b", "c"} {
			require.Equal(t, "EPERM", inside(t, sb, "mknod", "/tmp/node", node, "1", "3"))
		}
	})
}

// allCapabilities are all that a sandbox can be given.
func allCapabilities() string {
	all := world.CapSet(1)<<(unix.CAP_LAST_CAP+1) - 1
	return strings.Join((all &^ (1 << unix.CAP_SYS_ADMIN)).Names(), ",")
}

// The capabilities that are asked for are those that the kernel shows, and that Applied names.
func TestChosenCapabilities(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		for text, want := range map[string]struct {
			mask  uint64
			names string
		}{
			"none":                     {},
			"CAP_CHOWN":                {1 << unix.CAP_CHOWN, "CAP_CHOWN"},
			"CAP_NET_RAW, CAP_SETPCAP": {1<<unix.CAP_NET_RAW | 1<<unix.CAP_SETPCAP, "CAP_SETPCAP CAP_NET_RAW"},
		} {
			sb := box(t, sandbox.Options{Rootfs: skeleton(t), Security: sandbox.Security{Capabilities: text}})
			for _, withInit := range []bool{false, true} {
				c := sandbox.Command("grep", "^Cap", "/proc/self/status")
				c.Init = withInit
				r, err := sb.Run(t.Context(), c)
				require.NoError(t, err)
				require.Equal(t, want.names, strings.Join(r.Applied.Capabilities, " "))
				mask := fmt.Sprintf("%016x", want.mask)
				require.Equal(t, fmt.Sprintf("CapInh:\t%s\nCapPrm:\t%s\nCapEff:\t%s\nCapBnd:\t%s\nCapAmb:\t%s", noCaps, mask, mask, mask, noCaps), output(t, sb, c))
			}
		}
		for text, want := range map[string]string{
			"CAP_SYS_ADMIN": "undo its sandbox's mounts", "chown": `"chown" is no capability`, "CAP_CHOWN,": `"" is no capability`,
			"CAP_CHOWN;CAP_KILL": "is no capability", "all": "is no capability",
		} {
			_, err := sandbox.Run(t.Context(), sandbox.Options{Store: store(t), Security: sandbox.Security{Capabilities: text}}, sandbox.Command("true"))
			var field *sandbox.FieldError
			require.ErrorAs(t, err, &field)
			require.Equal(t, "Options.Security.Capabilities", field.Field)
			require.ErrorContains(t, err, want)
		}
	})
}

const noCaps = "0000000000000000"

func with(c *sandbox.Cmd, user string) *sandbox.Cmd {
	c.User = user
	return c
}

// A set-user-ID program and one with file capabilities give a user nothing.
func TestSetUID(t *testing.T) {
	testenv.Root(t)
	root := skeleton(t)
	program, err := os.ReadFile(escape.Program(t))
	require.NoError(t, err)
	writeFile(t, root, "bin/suid", string(program), 0o755)
	require.NoError(t, os.Chmod(filepath.Join(root, "bin/suid"), 0o755|os.ModeSetuid))
	writeFile(t, root, "bin/caps", string(program), 0o755)
	// vfs_cap_data, revision 2, effective: CAP_CHOWN and CAP_NET_RAW (capabilities(7)).
	caps := []byte{1, 0, 0, 2, 0x01, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	require.NoError(t, unix.Setxattr(filepath.Join(root, "bin/caps"), "security.capability", caps, 0))
	require.NoError(t, os.Chmod(filepath.Dir(root), 0o755))

	asUser := func(name string) string {
		cmd := exec.Command(filepath.Join(root, "bin", name), "ids")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 60001, Gid: 60001}}
		return control(t, cmd)
	}
	require.Contains(t, asUser("suid"), "60001 0 ", "the control is not set-user-ID")
	require.Contains(t, asUser("caps"), " 0000000000002001 ", "the control has no capabilities")

	sb := box(t, sandbox.Options{Rootfs: root, User: "user"})
	for _, name := range []string{"/bin/suid", "/bin/caps"} {
		require.Equal(t, "1000 1000 "+noCaps+" "+noCaps+"\nok", output(t, sb, sandbox.Command(name, "ids")), name)
	}
}

// The old way out of a chroot leads to the sandbox's root and no further.
func TestChrootBreakOut(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		marker := filepath.Join(t.TempDir(), "marker")
		require.NoError(t, os.WriteFile(marker, nil, 0o644))
		jail := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(jail, "d"), 0o755))
		copied := filepath.Join(jail, "attempt")
		program, err := os.ReadFile(escape.Program(t))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(copied, program, 0o755))
		cmd := exec.Command("/attempt", "chroot_out", "d", marker)
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: jail}
		if os.Getuid() != 0 {
			cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
		}
		require.Equal(t, "ok", control(t, cmd), "the control does not get out")
		for _, o := range []sandbox.Options{{}, {Rootfs: skeleton(t)}} {
			sb := box(t, o)
			require.Equal(t, "ENOENT", inside(t, sb, "chroot_out", "/tmp/d", marker))
			require.Equal(t, "ok", inside(t, sb, "chroot_out", "/tmp/e", "/tmp/e"), "the sandbox's own root is not there")
		}
	})
}

// A working directory through a leaked descriptor was a way out of runc (CVE-2024-21626).
func TestDirOfDescriptor(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		// Not closed on exec, as a careless embedder has them.
		fd, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		require.NoError(t, err)
		defer unix.Close(fd)
		marker := filepath.Join(t.TempDir(), "marker")
		require.NoError(t, os.WriteFile(marker, nil, 0o644))
		out, err := exec.Command("sh", "-c", "ls /proc/self/fd/"+strconv.Itoa(fd)+marker).CombinedOutput()
		require.NoError(t, err, "the control: %s", out)
		for _, o := range []sandbox.Options{{}, {Rootfs: skeleton(t)}} {
			sb := box(t, o)
			for n := range 100 {
				for _, dir := range []string{"/proc/self/fd/", "/proc/1/fd/", "/proc/thread-self/fd/"} {
					dir += strconv.Itoa(n)
					_, err := sb.Output(t.Context(), &sandbox.Cmd{Args: []string{"true"}, Dir: dir})
					require.Error(t, err, dir)
				}
			}
			// Set-up has descriptors of its own; none of them is in reach of the path, either.
			for _, n := range []int{fd, 200, 300} {
				_, err := sb.Output(t.Context(), sandbox.Command("/proc/self/fd/"+strconv.Itoa(n)+"/bin/true"))
				require.Error(t, err)
			}
		}
	})
}
