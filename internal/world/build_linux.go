package world

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// A Spec says what a World is made of.
type Spec struct {
	// Namespaces are those of NewNamespaces with Map; the World, once built, has
	// taken them over. Without a network namespace it has the embedder's.
	Namespaces *Namespaces
	Map        IDMap
	Hostname   string
	Hosts      []byte // the content of /etc/hosts
	Resolv     []byte // the content of /etc/resolv.conf
	Root       Root
	ReadOnly   bool
	// Disk is how many bytes commands may write in the writable places of a HostRoot; 0: no limit.
	Disk int64
	// Mounts are what is there besides, those above before those below. There can be no Base then.
	Mounts []Mount
	// Devices are paths below /dev of the host's devices that are there as well.
	Devices []string
	// Nesting leaves commands what makes a sandbox within the World.
	Nesting bool
	// HidePID hides other users' processes in /proc (proc(5), hidepid=invisible).
	HidePID bool
	// Base is what a HostRoot can begin with; nil: it is made of nothing.
	Base *Base
}

// Root makes the root mount of a World.
type Root interface {
	// prepare does what must be done outside, before the program is built:
	// it returns the files that the program needs as inputs.
	prepare(ctx context.Context, s *Spec) ([]*os.File, error)
	// mount adds the calls that make the root mount, detached.
	mount(m *mounter, inputs []spawn.Ref) spawn.Ref
	// fill adds the calls that make its content, once the root is attached.
	fill(m *mounter, inputs []spawn.Ref)
	// finish adds the calls that remain when the root is "/".
	finish(m *mounter, s *Spec)
	// writable are the directories in which files may be changed, but /dev and /proc.
	writable(s *Spec) []string
	// private adds the calls that make what is the World's alone, in "/".
	private(m *mounter, s *Spec)
}

// A World is a set of namespaces that commands are started in, held by
// descriptors: no process lives in it between commands.
type World struct {
	spec Spec

	files   []*os.File // fixed once built
	covered []*os.File // what lies below mounts, until it is asked for

	mu     sync.RWMutex // held while files are used, but by the stocks
	closed bool

	mounts stock[int]   // copies of the mount namespace, one for each command
	homes  stock[*home] // for commands behind an init
	init   atomic.Pointer[os.File]
}

// The order of the files of a World, as Build's program sends them.
const (
	fileUser = iota
	fileMnt
	fileUTS
	fileIPC
	fileRoot
	fileNet // only with a network namespace of its own
)

// Build makes a World.
func Build(ctx context.Context, s Spec) (*World, error) {
	inputs, err := s.Root.prepare(ctx, &s)
	defer closeFiles(inputs)
	if err != nil {
		return nil, err
	}
	if err := s.checkExtra(); err != nil {
		return nil, err
	}
	var dev *os.File
	if s.Base == nil {
		if dev, err = newDev(s.Map.UIDs[0].Outside, s.Devices); err != nil {
			return nil, err
		}
		defer closeFiles([]*os.File{dev})
	}
	fds, _, err := spawn.Run(ctx, func(p *spawn.Program) { s.build(p, inputs, dev) })
	if err != nil {
		return nil, outerError("a sandbox's namespaces and mounts", err)
	}
	w := &World{spec: s, files: []*os.File{s.Namespaces.User}}
	for _, e := range s.Mounts {
		if e.Covered {
			w.covered, fds = append(w.covered, os.NewFile(uintptr(fds[0]), e.Target)), fds[1:]
		}
	}
	last := len(fds) - 1
	w.mounts = stock[int]{most: 16, keep: 1, make: w.copies, drop: closeAll, ready: fds[last:]}
	w.homes = stock[*home]{most: 8, make: w.newHomes, drop: closeHomes}
	for _, fd := range fds[:last] {
		w.files = append(w.files, os.NewFile(uintptr(fd), "namespace"))
	}
	if s.Namespaces.Net != nil {
		w.files = append(w.files, s.Namespaces.Net)
	}
	return w, nil
}

func dup(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// build adds the calls of a child that makes all namespaces and mounts and
// hands them over as descriptors.
func (s *Spec) build(p *spawn.Program, files []*os.File, devFile *os.File) {
	user, net := p.Input(int(s.Namespaces.User.Fd())), optional(p, s.Namespaces.Net)
	inputs := inputs(p, files)
	dev := optional(p, devFile)
	var trees []spawn.Ref
	for _, e := range s.Mounts {
		trees = append(trees, optional(p, e.Tree))
	}
	self := selfHandle(p)
	m := &mounter{Program: p, spec: s}
	if s.Base != nil {
		s.Base.enter(p)
	}
	s.namespaces(p, user, net)
	held := []spawn.Ref{ownNS(p, self, "mnt"), ownNS(p, self, "uts"), ownNS(p, self, "ipc")}
	if s.Base == nil {
		trees = s.tree(m, inputs, dev, trees)
	}
	s.private(m)
	if covered := s.attachExtra(m, trees); covered != nil {
		p.Send(covered...)
	}
	held = append(held, p.Do("open", "/", unix.SYS_OPENAT, at, "/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0))
	p.Send(append(held, copyMountNS(p, self, 1)...)...)
}

func (s *Spec) namespaces(p *spawn.Program, user, net spawn.Ref) {
	p.EnterUserNS(user)
	if net != spawn.NoRef {
		p.Do("setns", "network namespace", unix.SYS_SETNS, net, unix.CLONE_NEWNET)
	}
	// Before the namespaces are made: the mqueue file system of the IPC namespace
	// belongs to whoever makes that.
	p.SetIDs(s.rootIDs())
	p.Do("unshare", "namespaces", unix.SYS_UNSHARE, unix.CLONE_NEWNS|unix.CLONE_NEWUTS|unix.CLONE_NEWIPC)
	p.Do("sethostname", s.Hostname, unix.SYS_SETHOSTNAME, s.Hostname, len(s.Hostname))
	if !s.Nesting {
		// A user namespace of its own would give a command all capabilities again,
		// over kernel code that need not be reachable (user_namespaces(7)).
		atMost(p, "max_user_namespaces", "0")
	}
	if !privileged() {
		atMost(p, "max_inotify_instances", "64") // they are its user's, who has 128 in all
	}
}

// atMost adds the calls that bound what there may be of something in the user
// namespace, where the kernel can (namespaces(7), /proc/sys/user).
func atMost(p *spawn.Program, name, most string) {
	path := "/proc/sys/user/" + name
	fd := p.Try("open", path, unix.SYS_OPENAT, at, path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	p.Try("write", path, unix.SYS_WRITE, fd, most, len(most))
}

// maxTerminals bounds the pseudoterminals of a World: the machine has 3,072 for all
// (kernel.pty.max less kernel.pty.reserve, which is its own).
const maxTerminals = 128

// tree adds the calls that make the mounts which several Worlds could share, and returns what the Mounts are made of.
func (s *Spec) tree(m *mounter, inputs []spawn.Ref, dev spawn.Ref, trees []spawn.Ref) []spawn.Ref {
	p := m.Program
	p.Do("umask", "", unix.SYS_UMASK, 0)
	// Nothing that is mounted outside later may appear inside, nor the other
	// way round (mount_namespaces(7)).
	p.Do("mount private", "/", unix.SYS_MOUNT, 0, "/", 0, unix.MS_REC|unix.MS_PRIVATE, 0)
	proc := deadProc(m)
	trees = s.openExtra(m, trees)
	m.root = s.Root.mount(m, inputs)
	// The new root goes over the old one; pivot_root then turns them round
	// and the old one, with everything below it, is let go (pivot_root(2)).
	p.Do("move_mount", "/", unix.SYS_MOVE_MOUNT, m.root, "", at, "/", unix.MOVE_MOUNT_F_EMPTY_PATH)
	s.Root.fill(m, inputs)
	device(m, dev, s.Devices)
	m.mkdir("/proc", 0o555)
	m.attach(proc, "/proc")
	s.sysfs(m)
	p.Do("fchdir", "/", unix.SYS_FCHDIR, m.root)
	p.Do("pivot_root", "/", unix.SYS_PIVOT_ROOT, ".", ".")
	p.Do("umount", "the old root", unix.SYS_UMOUNT2, ".", unix.MNT_DETACH)
	p.Do("chdir", "/", unix.SYS_CHDIR, "/")
	s.places(m)
	s.Root.finish(m, s)
	m.protectOnly("/dev", readOnly|noSuid|noExec)
	return trees
}

// private adds the calls that make the mounts which are one World's alone. Where
// they go are mounts of ours or directories that we made: no path leads elsewhere.
func (s *Spec) private(m *mounter) {
	m.Do("umask", "", unix.SYS_UMASK, 0)
	options := fmt.Sprintf("ptmxmode=0666,mode=0620,max=%d", maxTerminals)
	if Maps(s.Map.GIDs, ttyGroup) {
		options += fmt.Sprintf(",gid=%d", ttyGroup)
	}
	m.newFS("devpts", "/dev/pts", unix.MS_NOSUID|unix.MS_NOEXEC, options)
	m.newFS("tmpfs", "/dev/shm", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=1777"+s.diskOption())
	m.newFS("mqueue", "/dev/mqueue", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if s.Base != nil && s.Namespaces.Net != nil {
		m.newFS("sysfs", "/sys", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	}
	s.Root.private(m, s)
}

// diskOption is that of a tmpfs.
func (s *Spec) diskOption() string {
	if s.Disk == 0 {
		return ""
	}
	return fmt.Sprintf(",size=%d,nr_inodes=%d", s.Disk, diskInodes(s.Disk))
}

// diskInodes is one for each page.
func diskInodes(size int64) int64 { return max(size/4096, 64) }

// rootIDs are what the World is built as: root of its user namespace, or the
// only id there is.
func (s *Spec) rootIDs() spawn.IDs {
	ids := spawn.IDs{KeepGroups: s.Map.single()}
	if !Maps(s.Map.UIDs, 0) {
		ids.UID = s.Map.UIDs[0].Inside
	}
	if !Maps(s.Map.GIDs, 0) {
		ids.GID = s.Map.GIDs[0].Inside
	}
	return ids
}

// deadProc mounts a proc instance of a PID namespace whose only process ends
// at once. It shows no pids, and lets each command mount one of its own: the
// kernel allows that only where a proc is fully visible (mount_too_revealing).
func deadProc(m *mounter) spawn.Ref {
	n := m.Fork(unix.CLONE_NEWPID)
	proc := m.fs("proc", noSuid|noDev|noExec)
	m.Join(n)
	return proc
}

// sysfs mounts a read-only /sys that shows this network namespace only. The
// kernel refuses it without a network namespace of one's own: /sys is empty then.
func (s *Spec) sysfs(m *mounter) {
	m.mkdir("/sys", 0o555)
	if s.Namespaces != nil && s.Namespaces.Net == nil {
		return
	}
	m.attach(m.fs("sysfs", readOnly|noSuid|noDev|noExec), "/sys")
}

// Close gives the namespaces back to the kernel.
func (w *World) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	homes, mounts := w.homes.stop(), w.mounts.stop() // both use the files
	// The kernel waits for a grace period when a mount namespace goes: one wait
	// for all that go at the same time.
	var gone sync.WaitGroup
	gone.Go(func() { closeHomes(homes) })
	for _, fd := range mounts {
		gone.Go(func() { unix.Close(fd) })
	}
	gone.Go(func() { w.files[fileMnt].Close() })
	closeFiles(w.covered)
	closeFiles(w.files[:fileMnt])
	closeFiles(w.files[fileMnt+1:])
	gone.Wait()
	return nil
}

// Namespace files for packages that work inside: nil once the World is closed
// or where it has none of its own.
func (w *World) file(i int) *os.File {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed || i >= len(w.files) {
		return nil
	}
	return w.files[i]
}

// UserNS is the World's user namespace.
func (w *World) UserNS() *os.File { return w.file(fileUser) }

// NetNS is the World's network namespace, nil if that is the embedder's.
func (w *World) NetNS() *os.File { return w.file(fileNet) }

// Covered gives, once, the directories that Mounts cover which are Covered, in their order, as O_PATH descriptors: the caller
// closes them.
func (w *World) Covered() []*os.File {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.covered
	w.covered = nil
	return c
}

// Root is the World's root directory, an O_PATH descriptor.
func (w *World) Root() *os.File { return w.file(fileRoot) }
