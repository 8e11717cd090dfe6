package sandbox

import (
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// stopSignal is what asks the command to end; 0: there is nobody to ask.
func (p *process) stopSignal() syscall.Signal {
	if p.cmd.idle {
		return 0
	}
	if p.cmd.StopSignal != 0 {
		return p.cmd.StopSignal
	}
	text := p.box.config().StopSignal
	if text == "" {
		return syscall.SIGTERM
	}
	sig, ok := parseSignal(text)
	if !ok {
		p.box.opts.Logger.Warn("the image's StopSignal is none; SIGTERM is sent", "sandbox", p.box.name, "signal", text)
		return syscall.SIGTERM
	}
	return sig
}

// parseSignal reads a signal as images have it: "SIGQUIT", "QUIT", "SIGRTMIN+3", "SIGRTMAX-1" or a number.
func parseSignal(text string) (syscall.Signal, bool) {
	if n, err := strconv.Atoi(text); err == nil {
		return syscall.Signal(n), 0 < n && n <= maxSignal
	}
	name := strings.ToUpper(text)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	// What programs see of the C library, which keeps two to itself (signal(7)).
	const first, last = 34, maxSignal
	for prefix, from := range map[string]int{"SIGRTMIN": first, "SIGRTMAX": last} {
		offset, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		n := 0
		if offset != "" {
			var err error
			if n, err = strconv.Atoi(offset); err != nil {
				return 0, false
			}
		}
		return syscall.Signal(from + n), first <= from+n && from+n <= last
	}
	sig := unix.SignalNum(name)
	return sig, sig != 0
}
