package world

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// commandClock is a time namespace for a command: a child that shares memory
// enters that which it unshared with its exec, since 6.2 ("fs/exec: switch timens
// when a task gets a new mm"). Before, it keeps the host's clocks and nothing tells.
var commandClock = &feature{name: "time namespaces of commands", version: "6.2", probe: probeClock}

// probeClock has a program executed that loops, and looks at its namespace.
// Where that can't be done the answer is yes: then a start with a Clock fails, too,
// and says why.
func probeClock() bool {
	fd, err := unix.MemfdCreate("probe", unix.MFD_CLOEXEC)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, loopELF()); err != nil {
		return true
	}
	sys := &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWTIME}
	if os.Geteuid() != 0 {
		sys.Cloneflags = unix.CLONE_NEWUSER
	}
	pid, err := syscall.ForkExec("/proc/self/fd/0", []string{"probe"}, &syscall.ProcAttr{Files: []uintptr{uintptr(fd)}, Sys: sys})
	if err != nil {
		return true
	}
	defer func() {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, 0, nil)
	}()
	own, err := os.Readlink("/proc/self/ns/time")
	if err != nil {
		return true
	}
	// A negative answer is for good, so it is not taken from the first look alone.
	for range 100 {
		its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/time", pid))
		if err != nil || its != own {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	return false
}

// loopELF is the smallest program (elf(5)): a jump to itself.
func loopELF() []byte {
	const head, base = 64 + 56, 0x400000
	machine, code := uint16(62), []byte{0xeb, 0xfe}
	if runtime.GOARCH == "arm64" {
		machine, code = 183, []byte{0, 0, 0, 0x14}
	}
	size := uint64(head + len(code))
	le := binary.LittleEndian
	b := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	b = le.AppendUint16(b, 2) // ET_EXEC
	b = le.AppendUint16(b, machine)
	b = le.AppendUint32(b, 1)         // EV_CURRENT
	b = le.AppendUint64(b, base+head) // entry
	b = le.AppendUint64(b, 64)        // program header
	b = le.AppendUint64(b, 0)         // section headers
	b = le.AppendUint32(b, 0)
	for _, n := range []uint16{64, 56, 1, 0, 0, 0} {
		b = le.AppendUint16(b, n)
	}
	b = le.AppendUint32(b, 1) // PT_LOAD
	b = le.AppendUint32(b, 5) // readable, executable
	for _, n := range []uint64{0, base, base, size, size, 0x10000} {
		b = le.AppendUint64(b, n)
	}
	return append(b, code...)
}
