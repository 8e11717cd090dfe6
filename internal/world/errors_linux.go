package world

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Unsupported says that something was asked for that this machine, or this
// user, can't have, and what to do about it. It is errors.ErrUnsupported.
type Unsupported struct {
	What   string
	Why    error
	Remedy string
}

func (e *Unsupported) Error() string {
	s := e.What + " can't be had here"
	if e.Why != nil {
		s += ": " + e.Why.Error()
	}
	if e.Remedy != "" {
		s += " (remedy: " + e.Remedy + ")"
	}
	return s
}

func (e *Unsupported) Unwrap() []error { return []error{errors.ErrUnsupported, e.Why} }

// outerError explains what an outer container forbids: Docker's default seccomp
// profile answers EPERM to unshare, setns and mount without CAP_SYS_ADMIN, and
// ENOSYS to clone3; a masked /proc keeps a fresh one from being mounted.
func outerError(what string, err error) error {
	switch {
	case keysExhausted(err):
		return &Unsupported{what, err, "this user has all the keys that he may have (keyrings(7)): sysctl kernel.keys.maxkeys=2000"}
	case errors.Is(err, unix.ENOSYS) && strings.Contains(err.Error(), "clone3"):
		return &Unsupported{what, err, "the kernel is older than 5.3, or an outer container's seccomp profile refuses clone3: run it with --security-opt seccomp=unconfined"}
	case errors.Is(err, unix.EPERM) && filtered():
		return &Unsupported{what, err, "an outer container's seccomp profile or missing CAP_SYS_ADMIN refuses it: run it with --security-opt seccomp=unconfined, or --privileged"}
	}
	return err
}

// filtered says whether a seccomp filter lies over this process (proc(5), Seccomp).
func filtered() bool {
	b, _ := os.ReadFile("/proc/self/status")
	return strings.Contains(string(b), "\nSeccomp:\t2")
}

// hasCap says whether this process has an effective capability.
func hasCap(capability int) bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return false
	}
	return data[capability/32].Effective&(1<<(capability%32)) != 0
}
