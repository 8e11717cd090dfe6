package sandbox

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/store"
	"github.com/seed-5a9fb6e0/sandbox/internal/world"
	"github.com/seed-5a9fb6e0/sandbox/netns"
)

// A userNS is the ids of one sandbox, and its namespaces until the sandbox's
// world has them.
type userNS struct {
	ns    *world.Namespaces
	ids   world.IDMap
	block *store.Block // root: ids that no other live sandbox has
}

// userPool makes the namespaces of a store's sandboxes, some ahead: a network
// namespace takes the kernel longer than all the rest of a sandbox.
type userPool struct {
	mu     sync.Mutex
	spare  []*userNS
	drop   *time.Timer // closes the spare ones when nobody came for them
	closed bool
	making sync.WaitGroup // of the goroutines that make spare ones
	busy   bool
}

const (
	maxSpare = 2
	spareAge = 300 * time.Millisecond
)

func newUserPool() *userPool { return &userPool{} }

// close gives the spare namespaces back, and waits for those being made.
func (p *userPool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.making.Wait()
	p.discard()
}

func (p *userPool) discard() {
	p.mu.Lock()
	spare := p.spare
	p.spare = nil
	if p.drop != nil {
		p.drop.Stop()
	}
	p.mu.Unlock()
	for _, u := range spare {
		u.release()
	}
}

// usual says whether spare namespaces fit o.
func usual(o *Options) bool { return o.User == "" && o.Network.Mode == netns.None }

// take returns namespaces for a sandbox.
func (p *userPool) take(ctx context.Context, s *Store, o *Options) (*userNS, error) {
	if usual(o) {
		p.mu.Lock()
		if n := len(p.spare); n > 0 {
			defer p.mu.Unlock()
			u := p.spare[n-1]
			p.spare = p.spare[:n-1]
			return u, nil
		}
		p.mu.Unlock()
	}
	return newUserNS(ctx, s, o)
}

// refill makes spare namespaces in the background for the next sandbox, if it is
// likely to be like o.
func (p *userPool) refill(s *Store, o *Options) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.busy || len(p.spare) >= maxSpare || !usual(o) {
		return
	}
	p.busy = true
	p.making.Add(1)
	go func() { // ends with what it makes; close waits for it
		defer p.making.Done()
		u, err := newUserNS(context.Background(), s, &Options{})
		p.mu.Lock()
		defer p.mu.Unlock()
		p.busy = false
		if err != nil {
			return // who needs one will see why
		}
		p.spare = append(p.spare, u)
		if p.drop != nil {
			p.drop.Stop()
		}
		p.drop = time.AfterFunc(spareAge, p.discard)
	}()
}

// newUserNS makes namespaces: as root over a block of ids of their own, as a user, and as root of a
// user namespace that has no such ids, over the subordinate ids that he has, else over his own id alone, which is
// then that of Options.User.
func newUserNS(ctx context.Context, s *Store, o *Options) (_ *userNS, err error) {
	u := &userNS{}
	defer func() {
		if err != nil {
			u.release()
		}
	}()
	switch {
	case os.Geteuid() == 0 && store.HaveBlocks():
		if u.block, err = s.state.Block(ctx); err != nil {
			return nil, err
		}
		r := []world.Range{{Inside: 0, Outside: int(u.block.Base()), Count: store.BlockSize}}
		u.ids = world.IDMap{UIDs: r, GIDs: r}
	case world.HaveMapHelpers():
		if u.ids, err = subordinate(); err != nil {
			return nil, err
		}
	}
	if u.ids.UIDs == nil {
		u.ids = single(o.User)
	}
	u.ns, err = world.NewNamespaces(ctx, u.ids, o.Network.Mode != netns.Host)
	return u, err
}

// subordinate maps root onto the caller and the ids above onto those that he may
// use besides (subuid(5)); nothing if he has none.
func subordinate() (m world.IDMap, err error) {
	uids, gids, err := store.SubIDs(uint32(os.Geteuid()))
	if err != nil || len(uids) == 0 || len(gids) == 0 {
		return m, err
	}
	return world.IDMap{UIDs: above(os.Geteuid(), uids), GIDs: above(os.Getegid(), gids)}, nil
}

func above(own int, ranges []store.IDRange) []world.Range {
	m := []world.Range{{Inside: 0, Outside: own, Count: 1}}
	next := 1
	for _, r := range ranges {
		if len(m) < world.MaxRanges && next < 1<<30 {
			m = append(m, world.Range{Inside: next, Outside: int(r.First), Count: int(r.Count)})
			next += int(r.Count)
		}
	}
	return m
}

// single maps one id onto the caller's own: that of user where it is a number,
// else root.
func single(user string) world.IDMap {
	name, group, _ := strings.Cut(user, ":")
	uid, _ := strconv.ParseUint(name, 10, 31)
	gid, err := strconv.ParseUint(group, 10, 31)
	if err != nil {
		gid = uid
	}
	return world.IDMap{
		UIDs: []world.Range{{Inside: int(uid), Outside: os.Geteuid(), Count: 1}},
		GIDs: []world.Range{{Inside: int(gid), Outside: os.Getegid(), Count: 1}},
	}
}

// outside says whether mounts are made from outside, with the caller's privilege.
func (u *userNS) outside() bool { return u.block != nil }

func (u *userNS) base() uint32 {
	if u.block == nil {
		return 0
	}
	return u.block.Base()
}

func (u *userNS) release() {
	if u.ns != nil {
		u.ns.Close()
	}
	if u.block != nil {
		u.block.Release()
	}
}

// check says whether the ids of a command are mapped.
func (u *userNS) check(uid, gid int) error {
	for _, c := range []struct {
		what   string
		id     int
		ranges []world.Range
	}{{"user", uid, u.ids.UIDs}, {"group", gid, u.ids.GIDs}} {
		if world.Maps(c.ranges, c.id) {
			continue
		}
		why := fmt.Errorf("%s id %d is not mapped in the sandbox's user namespace", c.what, c.id)
		if u.block != nil {
			return &FieldError{"Cmd.User", c.id, why.Error()}
		}
		return &world.Unsupported{What: "this user", Why: why,
			Remedy: "subordinate ids in /etc/subuid and /etc/subgid with newuidmap and newgidmap installed, or this number as Options.User"}
	}
	return nil
}

// mayPass says whether a file can be given to a command as it is. A socket could
// take in descriptors. A regular file can be opened again by /proc/self/fd
// (proc_pid_fd(5)): then what its mode allows counts, and for a user's sandbox
// its owner is root inside. Where that is more than the descriptor allows, the
// file is copied from or to.
func mayPass(f *os.File) bool {
	info, err := f.Stat()
	switch {
	case err != nil || info.Mode()&os.ModeSocket != 0:
		return false
	case !info.Mode().IsRegular():
		return true
	case os.Geteuid() != 0 || !store.HaveBlocks():
		return false
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	access := flags & unix.O_ACCMODE
	read, write := info.Mode()&0o004 != 0, info.Mode()&0o002 != 0
	return err == nil && !(read && access == unix.O_WRONLY) && !(write && (access == unix.O_RDONLY || flags&unix.O_APPEND != 0))
}

// isPath says whether a file was opened with O_PATH.
func isPath(f *os.File) bool {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_PATH != 0
}
