package spawn

import (
	"sync"

	"golang.org/x/sys/unix"
)

// dumpable keeps the embedder's own PR_SET_DUMPABLE while children change ids.
// The flag belongs to the memory, which they share with the embedder: a change
// of euid in a child clears it for the embedder, for good (credentials(7),
// commit_creds), and a non-dumpable process of an ordinary user can't open its
// own /proc/self any more.
var dumpable struct {
	mu    sync.Mutex
	users int
	saved int
}

// saveDumpable returns the embedder's own value and the function that puts it
// back once the program has ended.
func saveDumpable() (value int, restore func()) {
	d := &dumpable
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.users == 0 {
		d.saved, _ = unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	}
	d.users++
	return d.saved, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.users--
		if d.saved == 1 {
			_ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
		}
	}
}

// programsInFlight counts the programs that may be changing ids now.
func programsInFlight() int {
	dumpable.mu.Lock()
	defer dumpable.mu.Unlock()
	return dumpable.users
}

// IDs are what a child runs as, as its own user namespace has them.
type IDs struct {
	UID, GID int
	// Groups are the supplementary groups. KeepGroups leaves them alone, where
	// the user namespace denies setgroups (user_namespaces(7)).
	Groups     []int
	KeepGroups bool
}

// SetIDs changes the ids of the child. An error of setresuid(2) is EINVAL for an
// id that the user namespace does not map.
func (p *Program) SetIDs(ids IDs) {
	if !ids.KeepGroups {
		p.Do("setgroups", "", unix.SYS_SETGROUPS, len(ids.Groups), p.groups(ids.Groups))
	}
	p.Do("setresgid", "", unix.SYS_SETRESGID, ids.GID, ids.GID, ids.GID)
	p.Do("setresuid", "", unix.SYS_SETRESUID, ids.UID, ids.UID, ids.UID)
	p.changedIDs()
}

// EnterUserNS has the child enter a user namespace. That is a change of ids for the
// kernel where the namespace was made by another (cred_cap_issubset in kernel/cred.c).
func (p *Program) EnterUserNS(ns Ref) {
	p.Do("setns", "user namespace", unix.SYS_SETNS, ns, unix.CLONE_NEWUSER)
	p.changedIDs()
}

// SetEffectiveUID changes the effective user id of the child alone, and none of its
// capabilities, which takes CAP_SETPCAP.
func (p *Program) SetEffectiveUID(uid int) {
	p.Do("prctl PR_SET_SECUREBITS", "", unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, secbitNoSetuidFixup, 0, 0, 0)
	p.Do("setresuid", "", unix.SYS_SETRESUID, -1, uid, -1)
	p.changedIDs()
}

// secbitNoSetuidFixup is SECBIT_NO_SETUID_FIXUP (linux/securebits.h).
const secbitNoSetuidFixup = 1 << 2

// changedIDs puts back what a change of ids has the kernel take away.
func (p *Program) changedIDs() {
	if p.dumpable == 1 {
		p.Do("prctl PR_SET_DUMPABLE", "", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
	}
	p.dieWithParent()
}

func (p *Program) groups(gids []int) uintptr {
	b := make([]byte, 0, 4*len(gids))
	for _, g := range gids {
		b = append(b, byte(g), byte(g>>8), byte(g>>16), byte(g>>24))
	}
	return p.Bytes(b)
}
