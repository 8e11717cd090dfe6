//go:build unix

package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Where the subordinate ids of our test users begin: above what systemd gives to containers (524288–1879048191).
const firstSubID = 1_900_000_000

// subIDUsers is the prefix of their names; the number of the process that made one follows, so that a later process can
// remove what a killed one left.
const subIDUsers = "sandboxtest-"

var subIDUser struct {
	sync.Mutex
	account
}

// AsSubIDUser is AsUser with a user who has a name and 65,536 subordinate user and group ids, made for this process and
// removed at its end. It needs newuidmap and newgidmap (Debian: uidmap) and fails without them. An ordinary user runs the
// test as himself when he has subordinate ids, else skips.
func AsSubIDUser(t *testing.T) bool {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv(builtEnv) == "" && !hasSubIDs() {
			t.Skip("testenv: needs subordinate ids (newuidmap, and a line in /etc/subuid)")
		}
		return false
	}
	subIDUser.Lock()
	defer subIDUser.Unlock()
	if subIDUser.uid == 0 {
		inMain(t)
		a, err := makeSubIDUser()
		if err != nil {
			t.Fatalf("testenv: %v", err)
		}
		subIDUser.account = a
	}
	rerun(t, subIDUser.account)
	return true
}

func hasSubIDs() bool {
	u, err := user.Current()
	if err != nil {
		return false
	}
	if _, err := exec.LookPath("newuidmap"); err != nil {
		return false
	}
	text, err := os.ReadFile("/etc/subuid")
	return err == nil && (strings.Contains("\n"+string(text), "\n"+u.Username+":") || strings.Contains("\n"+string(text), "\n"+u.Uid+":"))
}

func makeSubIDUser() (account, error) {
	for _, tool := range []string{"newuidmap", "newgidmap", "useradd", "usermod", "userdel"} {
		if _, err := exec.LookPath(tool); err != nil {
			return account{}, fmt.Errorf("%w (apt-get install uidmap passwd, or bash scripts/deps)", err)
		}
	}
	if err := removeDeadUsers(); err != nil {
		return account{}, err
	}
	name := subIDUsers + strconv.Itoa(os.Getpid())
	if err := tool("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", name); err != nil {
		return account{}, err
	}
	atExit = append(atExit, func() error { return tool("userdel", name) })
	first := firstSubID + os.Getpid()%2048*65536
	ids := fmt.Sprintf("%d-%d", first, first+65535)
	if err := tool("usermod", "--add-subuids", ids, "--add-subgids", ids, name); err != nil {
		return account{}, err
	}
	u, err := user.Lookup(name)
	if err != nil {
		return account{}, err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return account{}, err
	}
	gid, err := strconv.Atoi(u.Gid)
	return account{name, uid, gid}, err
}

// removeDeadUsers removes the users of test processes that were killed.
func removeDeadUsers() error {
	text, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, ":")
		id, ours := strings.CutPrefix(name, subIDUsers)
		pid, err := strconv.Atoi(id)
		if !ours || err != nil || pid == os.Getpid() || syscall.Kill(pid, 0) == nil {
			continue
		}
		if err := tool("userdel", name); err != nil {
			return err
		}
	}
	return nil
}

// tool runs a program of the machine; what it printed is in the error.
func tool(name string, arg ...string) error {
	if out, err := exec.Command(name, arg...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(arg, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
