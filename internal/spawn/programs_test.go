//go:build linux

package spawn

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// plain is a program whose first child becomes the command.
func plain(argv ...string) func(*Program) { return command(nil, argv...) }

// nested is one whose nested child does, in a PID namespace of its own where we may make one.
func nested(argv ...string) func(*Program) {
	return command(func(p *Program) {
		flags := uint64(unix.CLONE_NEWPID | unix.CLONE_NEWNS)
		if os.Geteuid() != 0 {
			flags = 0
		}
		p.ForkCommand(flags, NoRef)
	}, argv...)
}

// command has our first three descriptors and what middle does before they are in their places.
func command(middle func(*Program), argv ...string) func(*Program) {
	return func(p *Program) {
		var in []Ref
		for _, fd := range []int{0, 1, 2} {
			in = append(in, p.Input(fd))
		}
		if middle != nil {
			middle(p)
		}
		for i, fd := range in {
			p.Do("dup3", "", unix.SYS_DUP3, fd, i, 0)
		}
		finish(p, argv...)
	}
}

func finish(p *Program, argv ...string) {
	p.Do("sigmask", "", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, p.Words(0), 0, 8)
	p.Exec([]string{argv[0]}, argv, os.Environ(), nil)
}

// firstID is where the ids of the user namespace begin that root's tests make.
const firstID = 1_700_000_000

// newUserNS makes a user namespace as internal/world does: root's has a range, an ordinary user's his own id.
func newUserNS(ctx context.Context) (*os.File, error) {
	fds, _, err := Run(ctx, func(p *Program) {
		p.Do("unshare", "user namespace", unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
		if os.Geteuid() == 0 {
			p.BeforeReap(func(pid int) error {
				for _, name := range []string{"uid_map", "gid_map"} {
					if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, name), fmt.Appendf(nil, "0 %d 65536", firstID), 0); err != nil {
						return err
					}
				}
				return nil
			})
		} else {
			writeFile(p, "/proc/self/setgroups", "deny")
			writeFile(p, "/proc/self/uid_map", fmt.Sprintf("0 %d 1", os.Geteuid()))
			writeFile(p, "/proc/self/gid_map", fmt.Sprintf("0 %d 1", os.Getegid()))
		}
		p.Send(open(p, "/proc/self/ns/user"))
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), "user namespace"), nil
}

func open(p *Program, path string) Ref {
	return p.Do("open", path, unix.SYS_OPENAT, unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

func writeFile(p *Program, path, text string) {
	fd := p.Do("open", path, unix.SYS_OPENAT, unix.AT_FDCWD, path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	p.Do("write", path, unix.SYS_WRITE, fd, text, len(text))
}

// worldCommand has what internal/world's commands have of what this package is about: an intermediate child that
// enters a user namespace, a nested one in a PID namespace that changes its ids twice; one child is both where its Setup
// has it born in the PID namespace.
func worldCommand(user *os.File, argv ...string) func(*Program) {
	return func(p *Program) {
		var in []Ref
		for fd := range 3 {
			in = append(in, p.Input(fd))
		}
		p.Do("setns", "user namespace", unix.SYS_SETNS, p.Input(int(user.Fd())), unix.CLONE_NEWUSER)
		if !p.Born() {
			p.ForkCommand(unix.CLONE_NEWPID|unix.CLONE_NEWNS, NoRef)
		}
		p.SetIDs(insideRoot())
		p.Do("setsid", "", unix.SYS_SETSID)
		for i, fd := range in {
			p.Do("dup3", "", unix.SYS_DUP3, fd, i, 0)
		}
		ids := insideRoot()
		if os.Geteuid() == 0 {
			ids.UID, ids.GID = 1000, 1000
		}
		p.SetIDs(ids)
		if p.setup.Guard != nil {
			p.Guarded()
			// As the command may do later: from here on only the guard can end it.
			p.Do("prctl PR_SET_PDEATHSIG", "", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, 0, 0, 0, 0)
		}
		p.CloseFrom(3)
		finish(p, argv...)
	}
}

// A program is a way to start a command.
type program struct {
	name  string
	setup Setup
	build func(*Program)
	init  *os.File // the user namespace of an init that is made before; nil: none is
}

func (p program) start(ctx context.Context) (*Process, error) {
	if p.init == nil {
		return Start(ctx, p.setup, p.build)
	}
	h := hook.Swap(nil) // is for the command
	init, err := newInit(ctx, p.init, initFile, p.setup.Namespaces)
	hook.Store(h)
	if err != nil {
		return nil, err
	}
	p.setup.Init = init
	c, err := Start(ctx, p.setup, p.build)
	if err != nil {
		CloseInits(init)
	}
	return c, err
}

// programs are all ways that this user has.
func programs(user *os.File, argv ...string) []program {
	all := []program{
		{"plain", Setup{Files: 3}, plain(argv...), nil},
		{"nested", Setup{Files: 3}, nested(argv...), nil},
		{"world", Setup{Files: 3}, worldCommand(user, argv...), nil},
		{"behind an init", Setup{Files: 3}, asPID1(user, argv...), user},
	}
	if os.Geteuid() == 0 {
		born := Setup{Files: 3, Namespaces: unix.CLONE_NEWPID}
		all = append(all, program{"born", born, worldCommand(user, argv...), nil},
			program{"born behind an init", born, asPID1(user, argv...), user})
	}
	return all
}

// guarded are those of them that need the guard to end with the embedder.
func guarded(user *os.File, argv ...string) (all []program) {
	for _, p := range programs(user, argv...) {
		if p.name == "world" || p.name == "born" {
			p.setup.Guard = guardFile
			all = append(all, p)
		}
	}
	return all
}

func insideRoot() IDs { return IDs{KeepGroups: os.Geteuid() != 0} }

// worldBuild has what internal/world's Build has of what this package is about: namespaces, a nested child that is
// done and joined, descriptors that come back.
func worldBuild(user *os.File) func(*Program) {
	return func(p *Program) {
		p.Do("setns", "user namespace", unix.SYS_SETNS, p.Input(int(user.Fd())), unix.CLONE_NEWUSER)
		p.Do("unshare", "namespaces", unix.SYS_UNSHARE, unix.CLONE_NEWNS|unix.CLONE_NEWUTS|unix.CLONE_NEWIPC)
		p.SetIDs(insideRoot())
		n := p.Fork(unix.CLONE_NEWPID)
		fs := p.Do("fsopen", "proc", unix.SYS_FSOPEN, "proc", unix.FSOPEN_CLOEXEC)
		p.Join(n)
		p.Do("sethostname", "box", unix.SYS_SETHOSTNAME, "box", 3)
		p.Send(open(p, "/proc/self/ns/uts"), fs)
		p.Send(open(p, "/proc/self/ns/mnt"))
	}
}

// wait waits for the end of p and gives it back.
func wait(t testing.TB, p *Process) unix.WaitStatus {
	t.Helper()
	s, err := p.Wait(t.Context())
	require.NoError(t, err)
	require.True(t, s.Known)
	require.NoError(t, p.Close())
	return s.Status
}
