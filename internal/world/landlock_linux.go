package world

import (
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// What a command may execute lies below "/" or was given to it. Until its exec a
// child has the embedder's memory, and so /proc/self/exe is the embedder's program:
// where a path of the sandbox leads there, by a link or as a script's interpreter, the
// kernel would execute that inside, and hand the file on to whoever a hostile image's
// dynamic loader is (as in CVE-2019-5736). Landlock (landlock(7)) refuses it, for the
// file is nowhere below "/". Renames between directories have to be allowed by name.
const executeRights = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_REFER

// What a command may change lies in the places of its root that are writable, or was
// given to it: the guard behind read-only mounts, and before a descriptor of a
// directory of the host's. Not where all of the root is writable: there it guards from
// the latter alone, and work on many files takes an eighth longer.
const (
	fileRights   = unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	changeRights = fileRights | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	truncateRight = unix.LANDLOCK_ACCESS_FS_TRUNCATE // ABI 3
)

// Abstract sockets and signals that no namespace keeps apart where the network is the host's (ABI 6).
const hostScope = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL

// Landlock is the ABI that commands are confined by, 0 where this kernel has none of use.
func Landlock() int {
	if !features.landlock.supported() {
		return 0
	}
	return landlockABI()
}

// landlockABI is the kernel's; 0 if it has no Landlock, or that was switched off at boot (lsm=).
var landlockABI = sync.OnceValue(func() int {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(abi)
})

// confine adds the calls that restrict where a command executes and changes files;
// no_new_privs is set.
func (w *World) confine(p *spawn.Program, files []*os.File, refs []spawn.Ref) {
	abi := Landlock()
	if abi == 0 || w.spec.Nesting { // it allows nobody to mount
		return
	}
	places := w.spec.Root.writable(&w.spec)
	file, change := uint64(fileRights), uint64(changeRights)
	if abi >= 3 {
		file, change = file|truncateRight, change|truncateRight
	}
	if slices.Contains(places, "/") {
		places, file, change = nil, 0, 0
	} else {
		// mq_open(3) does not go through this mount, but has the same directory.
		places = append(places, "/dev", "/proc", "/dev/mqueue")
	}
	var scope, size uintptr = 0, 8 // of struct landlock_ruleset_attr
	if abi >= 6 && len(w.files) <= fileNet {
		scope, size = hostScope, 24
	}
	rules := p.Do("landlock_create_ruleset", "", unix.SYS_LANDLOCK_CREATE_RULESET, p.Words(uintptr(executeRights|change), 0, scope), size, 0)
	allow := func(place string, rights uint64) {
		dir := p.Do("open", place, unix.SYS_OPENAT, at, place, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		p.Do("landlock_add_rule", place, unix.SYS_LANDLOCK_ADD_RULE, rules, unix.LANDLOCK_RULE_PATH_BENEATH, p.WordAndFD(rights, dir), 0)
	}
	allow("/", executeRights)
	for _, place := range places {
		allow(place, change)
	}
	for i := range w.spec.Mounts {
		e := &w.spec.Mounts[i]
		rights := change
		if !e.Dir {
			rights = file
		}
		if e.Writable && rights != 0 {
			p.Do("landlock_add_rule", e.Target, unix.SYS_LANDLOCK_ADD_RULE, rules, unix.LANDLOCK_RULE_PATH_BENEATH, p.WordAndFD(rights, e.open(p)), 0)
		}
	}
	for i, f := range files {
		if f == nil {
			continue
		}
		// Again by /dev/stdout or /proc/self/fd. A pipe, socket or memfd needs no rule.
		if info, err := f.Stat(); err == nil && info.Mode()&(os.ModeDir|os.ModeNamedPipe|os.ModeSocket) == 0 {
			p.Try("landlock_add_rule", f.Name(), unix.SYS_LANDLOCK_ADD_RULE, rules, unix.LANDLOCK_RULE_PATH_BENEATH,
				p.WordAndFD(unix.LANDLOCK_ACCESS_FS_EXECUTE|file, refs[i]), 0)
		}
	}
	p.Do("landlock_restrict_self", "", unix.SYS_LANDLOCK_RESTRICT_SELF, rules, 0)
}
