package world

import (
	"os/signal"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const lastSignal = 64 // SIGRTMAX

// ignored remembers which signals the embedder ignores without Go's doing: what
// it was started with (nohup(1)), or C code in it. To ask the kernel for all of
// them takes longer than the rest of a start that is not a system call, and they
// hardly ever change: so only now and then.
var ignored struct {
	mu      sync.Mutex
	at      time.Time
	signals [lastSignal + 1]bool
}

const ignoredAge = time.Second

// ignoredSignals are those that a child would inherit as ignored.
func ignoredSignals() (all []unix.Signal) {
	i := &ignored
	i.mu.Lock()
	defer i.mu.Unlock()
	if time.Since(i.at) > ignoredAge {
		for sig := range i.signals {
			i.signals[sig] = sig > 0 && kernelIgnores(sig)
		}
		i.at = time.Now()
	}
	for sig := 1; sig <= lastSignal; sig++ {
		// What Go ignores, it knows without a system call.
		if s := unix.Signal(sig); i.signals[sig] || signal.Ignored(s) && s != unix.SIGKILL && s != unix.SIGSTOP {
			all = append(all, s)
		}
	}
	return all
}

func kernelIgnores(sig int) bool {
	var act [4]uintptr // struct kernel_sigaction; the handler is first
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&act)), 8, 0, 0)
	return errno == 0 && act[0] == 1 // SIG_IGN
}
