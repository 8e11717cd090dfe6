package tinyinit

import (
	"bytes"
	"debug/elf"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// roleEnv has the test binary check, in a PID namespace of its own, what Open does where memory may not be executed.
const roleEnv = "TINYINIT_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(roleEnv); dir != "" {
		if err := withoutExecutableMemory(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	testenv.Main(m, testenv.Options{})
}

// artefacts are the committed programs, and what each is for.
func artefacts() iter.Seq2[string, elf.Machine] {
	return func(yield func(string, elf.Machine) bool) {
		for _, program := range []string{"init_", "guard_"} {
			for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
				if !yield(program+arch, machine) {
					return
				}
			}
		}
	}
}

// The artefacts are what the source and the compilers of Debian bookworm make.
func TestRebuilt(t *testing.T) {
	dir := t.TempDir()
	out, err := exec.Command("bash", "src/build", dir).CombinedOutput()
	require.NoError(t, err, "apt-get install gcc gcc-aarch64-linux-gnu, or bash scripts/deps\n%s", out)
	for name := range artefacts() {
		want, err := os.ReadFile(name)
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		version, err := exec.Command("x86_64-linux-gnu-gcc", "--version").Output()
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), "%s differs: go generate ./internal/tinyinit; it must be gcc 12.2.0 of Debian bookworm, and is %s", name, version)
	}
}

// They are static, small, without anything to be written, and run on kernels with pages of 64 KiB.
func TestArtefacts(t *testing.T) {
	for name, machine := range artefacts() {
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.Less(t, info.Size(), int64(2048), name)
		f, err := elf.Open(name)
		require.NoError(t, err)
		defer f.Close()
		require.Equal(t, elf.ET_EXEC, f.Type)
		require.Equal(t, machine, f.Machine)
		require.Len(t, f.Progs, 2)
		load, stack := f.Progs[0], f.Progs[1]
		require.Equal(t, elf.PT_LOAD, load.Type)
		require.Equal(t, elf.PF_R|elf.PF_X, load.Flags)
		require.Less(t, load.Memsz, uint64(4096), "more than one page")
		require.Equal(t, elf.PT_GNU_STACK, stack.Type)
		require.Equal(t, elf.PF_R|elf.PF_W, stack.Flags)
		if machine == elf.EM_AARCH64 {
			require.Equal(t, uint64(65536), load.Align)
		}
	}
}

// The file can't be changed, nor read by who is not its owner, and no child inherits it.
func TestOpen(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		f, err := Open("/nonexistent")
		require.NoError(t, err)
		defer f.Close()
		got := make([]byte, len(initProgram)+1)
		n, _ := f.ReadAt(got, 0)
		require.Equal(t, initProgram, got[:n])

		info, err := f.Stat()
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o111), info.Mode())
		_, err = f.WriteAt([]byte("x"), 0)
		require.ErrorIs(t, err, unix.EPERM)
		require.ErrorIs(t, f.Truncate(0), unix.EPERM)
		require.ErrorIs(t, f.Truncate(1<<20), unix.EPERM)
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE)
		require.ErrorIs(t, err, unix.EPERM)
		flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
		require.NoError(t, err)
		require.Equal(t, unix.FD_CLOEXEC, flags)
		require.NoError(t, runsAsPID1(f))
	})
}

// The fallback is as good, but for the seals: who has its descriptor can't write.
func TestUnnamed(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		dir := t.TempDir()
		fd, err := unnamed(dir, initProgram)
		require.NoError(t, err)
		f := os.NewFile(uintptr(fd), "init")
		defer f.Close()
		info, err := f.Stat()
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o111), info.Mode())
		require.Equal(t, int64(len(initProgram)), info.Size())
		_, err = f.WriteAt([]byte("x"), 0)
		require.ErrorIs(t, err, unix.EBADF)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, entries)
		require.NoError(t, runsAsPID1(f))

		_, err = unnamed(dir+"/missing", initProgram)
		require.ErrorIs(t, err, os.ErrNotExist)
	})
}

// Where vm.memfd_noexec is 2 (6.3, for a PID namespace), Open takes the fallback, and says what is wrong with it.
func TestNoExecutableMemory(t *testing.T) {
	testenv.Root(t)
	if _, err := os.Stat(noexecSysctl); os.IsNotExist(err) {
		return // before 6.3 memory is always executable
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

const noexecSysctl = "/proc/sys/vm/memfd_noexec"

func withoutExecutableMemory(dir string) error {
	if err := os.WriteFile(noexecSysctl, []byte("2"), 0); err != nil {
		return err
	}
	if _, err := sealed("init", initProgram); err != unix.EACCES {
		return fmt.Errorf("a sealed file: %v, want EACCES", err)
	}
	if _, err := Open(dir + "/missing"); !os.IsNotExist(err) {
		return fmt.Errorf("got %v, want the directory missing", err)
	}
	f, err := Open(dir)
	if err != nil {
		return err
	}
	cmd := start(f, 0)
	if err := cmd.Start(); err != nil {
		return err
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return f.Close()
}

// start executes f in new namespaces.
func start(f *os.File, namespaces uintptr) *exec.Cmd {
	return &exec.Cmd{
		Path:        "/proc/self/fd/3",
		Args:        []string{"init"},
		ExtraFiles:  []*os.File{f},
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: namespaces, Pdeathsig: syscall.SIGKILL},
	}
}

// runsAsPID1 runs f as PID 1. Signals don't end it, but for SIGKILL.
func runsAsPID1(f *os.File) error {
	namespaces := uintptr(unix.CLONE_NEWPID)
	if os.Geteuid() != 0 {
		namespaces |= unix.CLONE_NEWUSER
	}
	cmd := start(f, namespaces)
	if err := cmd.Start(); err != nil {
		return err
	}
	comm := "/proc/" + strconv.Itoa(cmd.Process.Pid) + "/comm"
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		name, err := os.ReadFile(comm)
		if string(name) == "init\n" {
			break
		}
		if err != nil || time.Now().After(end) {
			return fmt.Errorf("it is called %q (%v)", name, err)
		}
	}
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		if sig != syscall.SIGKILL && sig != syscall.SIGSTOP {
			if err := cmd.Process.Signal(sig); err != nil {
				return fmt.Errorf("signal %d: %w", sig, err)
			}
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		return err
	}
	err := cmd.Wait()
	if err == nil || !strings.Contains(err.Error(), "signal: killed") {
		return fmt.Errorf("it ended by %v", err)
	}
	return nil
}

// The guard kills all that it has been given when the other end of its socket is closed, or the embedder ends: however many they
// are, with however little room for descriptors; and nobody before that.
func TestGuard(t *testing.T) {
	for _, c := range []struct {
		name        string
		limit       uint64
		all, ending int // commands, and how many of them end before
		byPidfd     bool
	}{
		{"few", 1024, 3, 1, false},
		{"many, most have ended", 1024, 200, 150, false},
		{"no room", 24, 60, 30, false},
		{"the embedder's end", 1024, 3, 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
			require.NoError(t, err)
			ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
			defer ours.Close()
			embedder := sleeper(t)
			program, err := OpenGuard(t.TempDir())
			require.NoError(t, err)
			defer program.Close()
			guard := start(program, 0)
			guard.Args = []string{"sandbox-guard"}
			guard.Stdin, guard.Stdout = theirs, pidfd(t, embedder)
			require.NoError(t, guard.Start())
			require.NoError(t, theirs.Close())
			limit := unix.Rlimit{Cur: c.limit, Max: c.limit}
			require.NoError(t, unix.Prlimit(guard.Process.Pid, unix.RLIMIT_NOFILE, &limit, nil))

			var commands []*exec.Cmd
			for i := range c.all {
				cmd := sleeper(t)
				if f := pidfd(t, cmd); i < c.ending {
					require.NoError(t, cmd.Process.Kill())
					_ = cmd.Wait()
					require.NoError(t, unix.Sendmsg(pair[0], []byte{1}, unix.UnixRights(int(f.Fd())), nil, 0))
				} else {
					commands = append(commands, cmd)
					require.NoError(t, unix.Sendmsg(pair[0], []byte{1}, unix.UnixRights(int(f.Fd())), nil, 0))
				}
			}
			time.Sleep(20 * time.Millisecond)
			for _, cmd := range commands {
				require.NoError(t, cmd.Process.Signal(syscall.Signal(0)), "it lives")
			}
			if c.byPidfd {
				require.NoError(t, embedder.Process.Kill())
				_ = embedder.Wait()
			} else {
				require.NoError(t, ours.Close())
			}
			require.NoError(t, guard.Wait())
			for _, cmd := range commands {
				require.ErrorContains(t, cmd.Wait(), "signal: killed")
			}
		})
	}
}

// sleeper is a process that lives until it is killed, or the test has ended.
func sleeper(t *testing.T) *exec.Cmd {
	cmd := exec.Command("sleep", "1000")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // os.ErrProcessDone: it was waited for
		_ = cmd.Wait()
	})
	return cmd
}

func pidfd(t *testing.T, cmd *exec.Cmd) *os.File {
	fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	require.NoError(t, err)
	f := os.NewFile(uintptr(fd), "pidfd")
	t.Cleanup(func() { f.Close() })
	return f
}
