package world

import (
	"os"

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

// Landlock says whether this kernel has it.
func Landlock() bool { return features.landlock.supported() }

// executeOnly adds the calls that confine what is executed; no_new_privs is set.
func executeOnly(p *spawn.Program, files []*os.File, refs []spawn.Ref) {
	if !features.landlock.supported() {
		return
	}
	rules := p.Do("landlock_create_ruleset", "", unix.SYS_LANDLOCK_CREATE_RULESET, p.Words(executeRights), 8, 0)
	root := p.Do("open", "/", unix.SYS_OPENAT, at, "/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	allow(p, rules, root, executeRights)
	for i, f := range files {
		if f == nil {
			continue
		}
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			p.Try("landlock_add_rule", f.Name(), unix.SYS_LANDLOCK_ADD_RULE, rules, unix.LANDLOCK_RULE_PATH_BENEATH,
				p.WordAndFD(unix.LANDLOCK_ACCESS_FS_EXECUTE, refs[i]), 0) // a memfd needs none
		}
	}
	p.Do("landlock_restrict_self", "", unix.SYS_LANDLOCK_RESTRICT_SELF, rules, 0)
}

func allow(p *spawn.Program, rules, place spawn.Ref, rights uint64) {
	p.Do("landlock_add_rule", "/", unix.SYS_LANDLOCK_ADD_RULE, rules, unix.LANDLOCK_RULE_PATH_BENEATH, p.WordAndFD(rights, place), 0)
}
