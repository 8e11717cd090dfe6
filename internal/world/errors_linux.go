package world

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
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

// outerError explains what an outer container forbids. Docker's default profile
// answers EPERM to unshare, setns and mount and ENOSYS to clone3; its AppArmor
// profile denies mount; and where parts of /proc are hidden the kernel allows
// nobody to mount a fresh one (mount_too_revealing). All that is in the way is
// said at once.
func outerError(what string, err error) error {
	var e *spawn.Error
	if !errors.As(err, &e) {
		return err
	}
	options := outerOptions()
	switch {
	case keysExhausted(err):
		return &Unsupported{what, err, "this user has all the keys that he may have (keyrings(7)): sysctl kernel.keys.maxkeys=2000"}
	case e.Op == "clone3" && e.Errno == unix.ENOSYS && options == "":
		return &Unsupported{what, err, "Linux 5.3 or newer"}
	case e.Errno == unix.EPERM || e.Errno == unix.EACCES || e.Errno == unix.ENOSYS:
		if options != "" {
			return &Unsupported{what, err, "an outer container forbids it: run that with " + options + ", or --privileged"}
		}
		if e.Errno == unix.EPERM && e.Path == "overlay" {
			return &Unsupported{"a union mount by an ordinary user", err, "Linux 5.11 or newer"}
		}
	}
	return err
}

// outerOptions lists the options of docker run and podman run that take away
// what an outer container holds this process by.
func outerOptions() string {
	var options []string
	for _, o := range []struct {
		held func() bool
		name string
	}{{filtered, "seccomp=unconfined"}, {coveredProc, "systempaths=unconfined"}, {confined, "apparmor=unconfined"}} {
		if o.held() {
			options = append(options, "--security-opt "+o.name)
		}
	}
	return strings.Join(options, " ")
}

// filtered says whether a seccomp filter lies over this process (proc_pid_status(5)).
func filtered() bool {
	b, _ := os.ReadFile("/proc/self/status")
	return strings.Contains(string(b), "\nSeccomp:\t2")
}

// coveredProc says whether something of /proc is hidden below a mount. That of
// binfmt_misc, which every host has, hides nothing: its place is always empty.
func coveredProc() bool {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line) // ID PARENT MAJOR:MINOR ROOT POINT (proc_pid_mountinfo(5))
		if len(f) > 4 && strings.HasPrefix(f[4], "/proc/") && f[4] != "/proc/sys/fs/binfmt_misc" {
			return true
		}
	}
	return false
}

// confined says whether an AppArmor profile is in force (apparmor(7)).
func confined() bool {
	b, _ := os.ReadFile("/proc/self/attr/apparmor/current")
	return strings.Contains(string(b), "(enforce)")
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
