package world

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// A Range maps Count ids from Inside in a user namespace to Outside in its
// parent, as a line of uid_map does (user_namespaces(7)).
type Range struct{ Inside, Outside, Count int }

// An IDMap is how a user namespace's ids appear outside.
type IDMap struct{ UIDs, GIDs []Range }

// MaxRanges is the kernel's limit for one map (4.15).
const MaxRanges = 340

// Maps says whether an id of the inside is mapped.
func Maps(ranges []Range, id int) bool {
	for _, r := range ranges {
		if id >= r.Inside && id-r.Inside < r.Count {
			return true
		}
	}
	return false
}

// InsideID is the id inside of one outside, -1 if it is not mapped.
func InsideID(ranges []Range, outside int) int {
	for _, r := range ranges {
		if outside >= r.Outside && outside-r.Outside < r.Count {
			return r.Inside + outside - r.Outside
		}
	}
	return -1
}

// MapText writes ranges as uid_map has them.
func MapText(ranges []Range) string {
	var b strings.Builder
	for _, r := range ranges {
		fmt.Fprintf(&b, "%d %d %d\n", r.Inside, r.Outside, r.Count)
	}
	return b.String()
}

// single says that one id is mapped onto the caller's own: the kernel allows
// that without any privilege, but denies setgroups.
func (m IDMap) single() bool {
	one := func(r []Range, self int) bool { return len(r) == 1 && r[0].Count == 1 && r[0].Outside == self }
	return one(m.UIDs, os.Geteuid()) && one(m.GIDs, os.Getegid())
}

// Namespaces are what takes longest to make and can be made before it is known
// what for: a user namespace, and a network namespace that belongs to it, in which
// only lo is, and is up.
type Namespaces struct {
	User *os.File
	Net  *os.File // nil if it was not asked for
}

// Close gives the namespaces back to the kernel.
func (n *Namespaces) Close() {
	n.User.Close()
	if n.Net != nil {
		n.Net.Close()
	}
}

// NewNamespaces makes a user namespace with the given map, and a network
// namespace in it if that is wanted. No process stays in them. As root the map is
// written from outside; an ordinary user's single id by the child itself,
// subordinate ids by newuidmap(1) and newgidmap(1).
func NewNamespaces(ctx context.Context, m IDMap, network bool) (*Namespaces, error) {
	var build func(*spawn.Program)
	end := func(p *spawn.Program) { sendNamespaces(p, network) }
	switch {
	case m.single():
		build = func(p *spawn.Program) { mapFromInside(p, m); end(p) }
	case os.Geteuid() == 0 && hasCap(unix.CAP_SETUID):
		build = func(p *spawn.Program) { mapFromOutside(p, m); end(p) }
	}
	var fds []int
	var err error
	if build != nil {
		fds, _, err = spawn.Run(ctx, build)
	} else {
		fds, err = mapByHelpers(ctx, m, end)
	}
	if err != nil {
		return nil, userNSError(err)
	}
	n := &Namespaces{User: os.NewFile(uintptr(fds[0]), "user namespace")}
	if network {
		n.Net = os.NewFile(uintptr(fds[1]), "network namespace")
	}
	return n, nil
}

func unshareUser(p *spawn.Program) {
	p.Do("unshare", "user namespace", unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
}

func sendNamespaces(p *spawn.Program, network bool) {
	user := openNS(p, "user")
	if !network {
		p.Send(user)
		return
	}
	p.Do("unshare", "network namespace", unix.SYS_UNSHARE, unix.CLONE_NEWNET)
	spawn.LoopbackUp(p)
	p.Send(user, openNS(p, "net"))
}

func openNS(p *spawn.Program, kind string) spawn.Ref {
	path := "/proc/self/ns/" + kind
	return p.Do("open", path, unix.SYS_OPENAT, at, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// mapFromOutside writes the maps of a child that has ended, while it has not
// yet been waited for.
func mapFromOutside(p *spawn.Program, m IDMap) {
	// The kernel charges what has a limit for each user, as inotify instances, timers
	// and queued signals, to a user namespace's maker as well (struct ucounts): not to
	// root, who would be out of them for all of the machine, but to the sandbox's own root.
	// To write the maps of a namespace that is another's takes CAP_SYS_ADMIN.
	if hasCap(unix.CAP_SETPCAP) && hasCap(unix.CAP_SYS_ADMIN) {
		p.SetEffectiveUID(m.UIDs[0].Outside)
	}
	unshareUser(p)
	p.BeforeReap(func(pid int) error {
		if err := writeProc(pid, "uid_map", MapText(m.UIDs)); err != nil {
			return err
		}
		return writeProc(pid, "gid_map", MapText(m.GIDs))
	})
}

func writeProc(pid int, name, text string) error {
	path := fmt.Sprintf("/proc/%d/%s", pid, name)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

func mapFromInside(p *spawn.Program, m IDMap) {
	unshareUser(p)
	// Without this the kernel lets nobody drop groups that restrict him
	// (user_namespaces(7), "setgroups").
	write(p, "/proc/self/setgroups", "deny")
	write(p, "/proc/self/uid_map", MapText(m.UIDs))
	write(p, "/proc/self/gid_map", MapText(m.GIDs))
}

// write adds the calls that write text to an existing file.
func write(p *spawn.Program, path, text string) {
	fd := p.Do("open", path, unix.SYS_OPENAT, unix.AT_FDCWD, path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	p.Do("write", path, unix.SYS_WRITE, fd, text, len(text))
	p.Do("close", path, unix.SYS_CLOSE, fd)
}

// userNSError adds what to do where a machine keeps its users from making user
// namespaces.
func userNSError(err error) error {
	for _, s := range []struct{ path, off, remedy string }{
		{"/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"},
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"},
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "an AppArmor profile that allows userns, or sysctl kernel.apparmor_restrict_unprivileged_userns=0"},
	} {
		b, _ := os.ReadFile(s.path)
		if strings.TrimSpace(string(b)) == s.off {
			return &Unsupported{What: "user namespaces for this user", Why: err, Remedy: s.remedy}
		}
	}
	var step *spawn.Error
	if errors.As(err, &step) && step.Path == "/proc/self/uid_map" && os.Geteuid() == 0 && !hasCap(unix.CAP_SETFCAP) {
		return &Unsupported{What: "user namespaces for this root", Why: err, Remedy: "the capability CAP_SETFCAP: as another user, or docker run --cap-add SETFCAP"}
	}
	return outerError("user namespaces", err)
}
