package seccomp

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// starts are the calls that a command's start itself makes after a filter of Notify, or that would wait for somebody who
// waits for the start.
var starts = []string{"execve", "exit_group", "seccomp", "sendmsg"}

// maxNotify keeps the filter short: it compares one number after the other.
const maxNotify = 64

// Notify makes a filter that leaves the named calls of this machine's own architecture to a listener (seccomp_unotify(2)),
// and says by which numbers they come. It lets all others of that architecture pass. One of another, by which the same
// could be done behind the listener's back, ends the process.
func Notify(calls []string) (*Filter, map[int32]string, error) {
	numbers := map[int32]string{}
	own := machines()[Machine][0]
	for _, name := range calls {
		nr, ok := own.numbers[name]
		switch {
		case !known(name):
			return nil, nil, fmt.Errorf("%q is no system call", name)
		case !ok:
			return nil, nil, fmt.Errorf("%s is no system call of %s", name, runtime.GOARCH)
		case slices.Contains(starts, name):
			return nil, nil, fmt.Errorf("%s is needed to start commands: it can't be one of these: %s", name, strings.Join(starts, ", "))
		}
		numbers[int32(nr)] = name
	}
	if len(numbers) == 0 || len(numbers) > maxNotify {
		return nil, nil, fmt.Errorf("%d system calls: it must be 1 to %d", len(numbers), maxNotify)
	}
	const load, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_RET | unix.BPF_K
	const equal, atLeast = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	pass, kill := unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW}, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_KILL_PROCESS}
	code := []unix.SockFilter{
		{Code: load, K: offArch}, {Code: equal, K: own.audit, Jt: 1}, kill,
		{Code: load, K: offNumber}, {Code: atLeast, K: x32Bit, Jf: 1}, kill,
	}
	for nr := range numbers {
		code = append(code, unix.SockFilter{Code: equal, K: uint32(nr), Jf: 1}, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_USER_NOTIF})
	}
	return &Filter{Profile: "notify", Flags: unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | waitKillable(), Code: append(code, pass)}, numbers, nil
}

// waitKillable is the flag that keeps signals from calls that a listener has seen (Linux 5.19), 0 where there is none. A
// flag that the kernel does not know is EINVAL, before it looks at the program.
var waitKillable = sync.OnceValue(func() uint {
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, 0); errno != unix.EFAULT {
		return 0
	}
	return unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
})

// Allow allows the calls, whatever the profile says of them: another filter decides.
func (p *Profile) Allow(calls ...string) error {
	for _, name := range calls {
		if !known(name) {
			return fmt.Errorf("%q is no system call", name)
		}
		p.set(name, rule{action: allow})
	}
	return p.sort()
}
