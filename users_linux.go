package sandbox

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// maxAccountFile bounds what is read of a sandbox's /etc/passwd and /etc/group.
const maxAccountFile = 1 << 20

// readFile reads a file of the sandbox's root. The kernel resolves the name in
// it; whatever a hostile program put there, the call does not block and is
// bounded.
func (b *box) readFile(name string) ([]byte, error) {
	root := b.world.Root()
	if root == nil {
		return nil, os.ErrClosed
	}
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	fd, err := unix.Openat2(int(root.Fd()), name, &how)
	if err != nil {
		return nil, &fs.PathError{Op: "openat2", Path: name, Err: err}
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
	return data, err
}

// accounts returns the sandbox's /etc/passwd and /etc/group; either may be
// missing. Where nothing can change them they are read once.
func (b *box) accounts() (passwd, group []byte, err error) {
	read := func(name string) []byte {
		data, rerr := b.readFile(name)
		if rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
		return data
	}
	if !b.opts.ReadOnly && b.layers() != nil {
		return read("/etc/passwd"), read("/etc/group"), err
	}
	b.passwdOnce.Do(func() { b.passwdFile, b.groupFile = read("/etc/passwd"), read("/etc/group") })
	return b.passwdFile, b.groupFile, err
}

// account is a user of a sandbox.
type account struct {
	spawn.IDs
	name, home string
}

// lookup resolves USER[:GROUP] as Docker does: names by the sandbox's files,
// numbers as they are, with the primary group and home of the user if he is
// there, else group 0 and "/".
func (b *box) lookup(user string) (account, error) {
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
		a.UID, err = parseID(row[2])
		if err == nil {
			a.GID, err = parseID(row[3])
		}
	default:
		if a.UID, err = parseID(name); err != nil {
			return a, &FieldError{"User", user, "no such user in the sandbox's /etc/passwd"}
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
			return a, &FieldError{"User", user, "no such group in the sandbox's /etc/group"}
		}
	} else if row != nil {
		a.Groups = memberOf(groups, name, a.GID)
	}
	return a, b.user.check(a.UID, a.GID)
}

// find returns the row of passwd(5) or group(5) whose name or third field is key.
func find(file []byte, key string, fields int) []string {
	var byNumber []string
	for sc := bufio.NewScanner(bytes.NewReader(file)); sc.Scan(); {
		row := strings.Split(sc.Text(), ":")
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

func groupID(file []byte, key string) (int, error) {
	if row := find(file, key, 4); row != nil {
		key = row[2]
	}
	return parseID(key)
}

// maxGroups is the kernel's NGROUPS_MAX.
const maxGroups = 65536

func memberOf(file []byte, name string, primary int) (gids []int) {
	for sc := bufio.NewScanner(bytes.NewReader(file)); sc.Scan(); {
		row := strings.Split(sc.Text(), ":")
		if len(row) != 4 || len(gids) == maxGroups {
			continue
		}
		for _, m := range strings.Split(row[3], ",") {
			if gid, err := parseID(row[2]); m == name && err == nil && gid != primary {
				gids = append(gids, gid)
			}
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
