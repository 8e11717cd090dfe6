package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// maxAccountFile bounds what is read of a sandbox's /etc/passwd and /etc/group.
const maxAccountFile = 1 << 20

// readFile reads a file of the sandbox's root. The kernel resolves the name in
// it; whatever a hostile program put there, the call does not block and is
// bounded.
func (b *box) readFile(name string) ([]byte, error) {
	// Not into /proc or /sys, whose files are regular ones, too: we would read with
	// our own rights, /proc/kmsg for ever.
	fd, err := b.openPath(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, unix.RESOLVE_NO_XDEV)
	if errors.Is(err, unix.EXDEV) {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("leads out of the root's own file system")}
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("not a regular file")}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxAccountFile+1))
	if err == nil && len(data) > maxAccountFile {
		err = &fs.PathError{Op: "read", Path: name, Err: errors.New("longer than 1 MiB")}
	}
	if err != nil {
		return nil, err
	}
	return data, nil
}

// accounts returns the sandbox's /etc/passwd and /etc/group; either may be missing.
func (b *box) accounts() (passwd, group []byte, err error) {
	read := func(name string) []byte {
		data, rerr := b.readFile(name)
		if errors.Is(rerr, fs.ErrNotExist) {
			return nil
		}
		err = errors.Join(err, rerr)
		return data
	}
	passwd, group = read("/etc/passwd"), read("/etc/group")
	return passwd, group, err
}

// account is a user of a sandbox.
type account struct {
	spawn.IDs
	name, home string
}

// An accountCache remembers whom lookup found, by what he was called. The zero
// value is empty.
type accountCache struct {
	mu    sync.Mutex
	found map[string]account
}

// maxAccounts bounds an accountCache: who asks for more has all looked up.
const maxAccounts = 64

// account is lookup, once for each user where nothing can change the files.
func (b *box) account(field, user string) (account, error) {
	if !b.opts.ReadOnly && b.layers() != nil {
		return b.lookup(field, user)
	}
	c := &b.users
	c.mu.Lock()
	defer c.mu.Unlock()
	if a, ok := c.found[user]; ok {
		return a, nil
	}
	a, err := b.lookup(field, user)
	if err == nil && len(c.found) < maxAccounts {
		if c.found == nil {
			c.found = map[string]account{}
		}
		c.found[user] = a
	}
	return a, err
}

// lookup resolves USER[:GROUP] as Docker does: names by the sandbox's files,
// numbers as they are, with the primary group and home of the user if he is
// there, else group 0 and "/".
func (b *box) lookup(field, user string) (account, error) {
	passwd, groups, err := b.accounts()
	if err != nil {
		return account{}, err
	}
	if user == "" {
		user = strconv.Itoa(b.user.ids.UIDs[0].Inside)
	}
	name, group, hasGroup := strings.Cut(user, ":")
	a := account{name: name, home: "/"}
	row := find(passwd, name, 7)
	switch {
	case row != nil:
		name, a.name, a.home = row[0], row[0], row[5]
		var gerr error
		a.UID, err = parseID(row[2])
		a.GID, gerr = parseID(row[3])
		if err = errors.Join(err, gerr); err != nil {
			return a, &FieldError{field, user, "has no number in the sandbox's /etc/passwd"}
		}
	default:
		if a.UID, err = parseID(name); err != nil {
			return a, &FieldError{field, user, "no such user in the sandbox's /etc/passwd"}
		}
		if len(b.user.ids.GIDs) == 1 && b.user.ids.GIDs[0].Count == 1 {
			a.GID = b.user.ids.GIDs[0].Inside
		}
	}
	if err != nil {
		return a, err
	}
	if hasGroup {
		if a.GID, err = groupID(groups, group); err != nil {
			return a, &FieldError{field, user, "no such group in the sandbox's /etc/group"}
		}
	} else if row != nil {
		a.Groups = memberOf(groups, name, a.GID)
	}
	err = b.user.check(a.UID, a.GID)
	if ids := b.user.ids.GIDs; len(ids) > 1 || ids[0].Count > 1 { // else there are no supplementary groups
		for _, gid := range a.Groups {
			if err != nil {
				break // the file may name any number of them
			}
			err = b.user.check(a.UID, gid)
		}
	}
	var fault *FieldError
	if errors.As(err, &fault) {
		fault.Field = field
	}
	return a, err
}

// find returns the row of passwd(5) or group(5) whose name or third field is key.
func find(file []byte, key string, fields int) []string {
	var byNumber []string
	first, further := []byte(key+":"), []byte(":"+key+":")
	for line := range bytes.Lines(file) {
		if !bytes.HasPrefix(line, first) && !bytes.Contains(line, further) {
			continue // most lines: they are not taken apart
		}
		row := columns(line)
		if len(row) != fields {
			continue
		}
		if row[0] == key {
			return row
		}
		if row[2] == key && byNumber == nil {
			byNumber = row
		}
	}
	return byNumber
}

// columns splits a line of passwd(5) or group(5), however long.
func columns(line []byte) []string {
	return strings.Split(strings.TrimRight(string(line), "\r\n"), ":")
}

func groupID(file []byte, key string) (int, error) {
	if row := find(file, key, 4); row != nil {
		key = row[2]
	}
	return parseID(key)
}

// maxGroups is the kernel's NGROUPS_MAX.
const maxGroups = 65536

func memberOf(file []byte, name string, primary int) (gids []int) {
	for line := range bytes.Lines(file) {
		if !bytes.Contains(line, []byte(name)) {
			continue
		}
		row := columns(line)
		if len(row) != 4 || len(gids) == maxGroups || !slices.Contains(strings.Split(row[3], ","), name) {
			continue
		}
		if gid, err := parseID(row[2]); err == nil && gid != primary {
			gids = append(gids, gid)
		}
	}
	return gids
}

// parseID parses a user or group id; 4294967295 means "none" to the kernel.
func parseID(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 1<<32-1 {
		return 0, fmt.Errorf("%q: not a user or group id", s)
	}
	return int(n), nil
}
