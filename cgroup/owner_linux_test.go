package cgroup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// owner makes a tree with processes in it and waits to be killed.
func owner(args []string) error {
	m, err := detect("")
	if err != nil {
		return err
	}
	tree, err := Open(Options{Name: args[0], Parent: args[1], Controllers: (Accounting | Unified) & m.available()})
	if err != nil {
		return err
	}
	var pids []string
	for _, name := range []string{"a", "b"} {
		g, err := tree.New(name, Limits{PIDs: 9})
		if err != nil {
			return err
		}
		c := exec.Command("sleep", "1000")
		if err := c.Start(); err != nil {
			return err
		}
		if err := g.Add(c.Process.Pid); err != nil {
			return err
		}
		pids = append(pids, strconv.Itoa(c.Process.Pid))
	}
	fmt.Println(strings.Join(pids, " "))
	select {}
}

func TestRecover(t *testing.T) {
	for _, parent := range []string{"", unique() + "/deep"} {
		name := unique()
		if top, _, ok := strings.Cut(parent, "/"); ok {
			t.Cleanup(func() { // a parent that was named stays
				for _, d := range dirs(top) {
					require.NoError(t, walk(d, rmdir))
				}
			})
		}
		other := openTree(t, Options{Parent: parent}) // a neighbour, whom nothing may happen to
		bystander := sleeper(t, must(other.New("g", Limits{}))(t))
		cmd := helper(t, "owner", name, parent)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		run(t, cmd)
		line, err := bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
		require.NotEmpty(t, dirs(name), "%s", line)
		pids := strings.Fields(line)
		require.Len(t, pids, 2)
		for _, pid := range pids {
			require.True(t, exists("/proc/"+pid), "it survives its owner")
		}
		cancelled, cancel := context.WithCancel(context.Background())
		cancel()
		_ = Recover(cancelled, parent, name) // cut short
		require.NoError(t, Recover(limit(t), parent, name))
		require.Empty(t, dirs(name))
		for _, pid := range pids {
			eventually(t, func() bool { return dead(pid) })
		}
		require.NoError(t, Recover(limit(t), parent, name), "again")
		require.NoError(t, bystander.Process.Signal(syscall.Signal(0)))
		require.NotEmpty(t, dirs(other.opts.Name))
	}
	require.ErrorIs(t, Recover(limit(t), "a/../..", ""), fs.ErrInvalid)
}

// No owner's name begins another's in the names of directories.
func TestRecoverNames(t *testing.T) {
	for _, parent := range []string{"", unique()} {
		a := unique()
		names := []string{a, a + ".b", a + ":db", a + ".", a + "b", a + ":d"}
		start := func(n string) {
			tree, err := Open(Options{Parent: parent, Name: n, Controllers: PIDs})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, tree.Close(limit(t))) })
			_, err = tree.New("b.g", Limits{})
			require.NoError(t, err)
		}
		for _, n := range names {
			start(n)
		}
		m, err := detect(parent)
		require.NoError(t, err)
		for _, n := range names {
			require.NoError(t, Recover(limit(t), parent, n))
			for _, other := range names {
				ps, err := m.find(Options{Parent: parent, Name: other}.prefix())
				require.NoError(t, err)
				require.Equal(t, other == n, len(ps) == 0, "%q after %q", other, n)
			}
			start(n)
		}
	}
}

// dead tells of a process that is gone or a zombie, which nobody may reap here.
func dead(pid string) bool {
	_, s, _ := strings.Cut(slurp("/proc/"+pid+"/stat"), ") ")
	return s == "" || s[0] == 'Z'
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		require.NoError(t, err)
		return v
	}
}

// recoverOwn must not end itself.
func recoverOwn(args []string) error {
	err := Recover(context.Background(), "", args[0])
	if !errors.Is(err, errOwn) {
		return fmt.Errorf("it lives, but: %w", err)
	}
	fmt.Println("refused")
	return nil
}

func TestRecoverOwn(t *testing.T) {
	for _, c := range present(t, PIDs, Unified) {
		tree := openTree(t, Options{Controllers: c})
		g, err := tree.New("g", Limits{})
		require.NoError(t, err)
		require.Equal(t, "refused", output(t, insideHelper(t, g, "recover", tree.opts.Name)))
	}
}

// makeGroup tries to have a group with the limits that its arguments name, and says how it went.
func makeGroup(args []string) error {
	if dir := os.Getenv("CGROUP_TEST_COVER"); dir != "" {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			return err
		}
	}
	for _, dir := range strings.Fields(os.Getenv("CGROUP_TEST_UMOUNT")) {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			return err
		}
	}
	if dir := os.Getenv("CGROUP_TEST_READONLY"); dir != "" {
		if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""); err != nil {
			return err
		}
	}
	o, l := Options{Name: args[0], Parent: os.Getenv("CGROUP_TEST_PARENT")}, Limits{PIDs: 5}
	if args[1] == "memory" {
		l.Memory = 1 << 20
	}
	if args[1] == "hugetlb" {
		l = Limits{HugeTLB: map[int64]int64{2 << 20: 0}}
	}
	if args[1] == "unified" {
		o.Controllers, l = Unified, Limits{}
	}
	tree, err := Open(o)
	if err != nil {
		return err
	}
	g, err := tree.New("g", l)
	if err == nil {
		fmt.Println("made", g.places()[0].dir)
		return tree.Close(context.Background())
	}
	if left := dirs(args[0]); len(left) > 0 {
		return fmt.Errorf("%w, but it left %q", err, left)
	}
	var e *UnsupportedError
	fmt.Printf("%v unsupported=%v permission=%v\n", err, errors.Is(err, errors.ErrUnsupported) && errors.As(err, &e), errors.Is(err, fs.ErrPermission))
	return tree.Close(context.Background())
}

// asUser runs a copy of the test binary, which other users may not reach, as nobody.
func asUser(t testing.TB, c *exec.Cmd) *exec.Cmd {
	dir, err := os.MkdirTemp("", "cgroup-test")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	b, err := os.ReadFile(c.Path)
	require.NoError(t, err)
	c.Path = dir + "/test"
	require.NoError(t, os.WriteFile(c.Path, b, 0o755))
	c.Dir = "/"
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	return c
}

func TestOrdinaryUser(t *testing.T) {
	name := unique()
	out := output(t, asUser(t, helper(t, "group", name, "pids")))
	require.Regexp(t, "^cgroup (pids controller|v2 directory): mkdir", out)
	require.Contains(t, out, "permission denied (run as root, or have a cgroup delegated")
	require.Contains(t, out, "unsupported=true permission=true")
	require.Empty(t, dirs(name))
}

// An ordinary user in a delegated v2 cgroup makes his groups there without naming a parent.
func TestDelegated(t *testing.T) {
	if !has(t, Unified) {
		return
	}
	tree := openTree(t, Options{Controllers: Unified})
	g, err := tree.New("user", Limits{})
	require.NoError(t, err)
	dir := g.dir(g.in(Unified))
	for _, f := range []string{"", "/cgroup.procs", "/cgroup.subtree_control", "/cgroup.threads"} {
		require.NoError(t, os.Chown(dir+f, 65534, 65534))
	}
	j, err := g.Join()
	require.NoError(t, err)
	defer j.Close()
	c := helper(t, "group", "mine", "unified")
	c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(j.Dir.Fd())}
	require.Equal(t, "made "+dir+"/sandbox.mine.g", output(t, asUser(t, c)))
}

// In a v2 cgroup that is delegated with a controller a user limits by it; the processes that live there have to make way.
func TestDelegatedController(t *testing.T) {
	m, err := detect("")
	require.NoError(t, err)
	for _, c := range []Controllers{Memory, HugeTLB} { // Beside processes there can be groups with pids alone.
		i := slices.IndexFunc(m.hier, func(h *hierarchy) bool { return h.v2 && h.ctl&c != 0 })
		if i < 0 {
			t.Log("v1 has", c)
			continue
		}
		top := m.hier[i].mount + "/" + unique()
		inner := top + "/inner"
		for _, dir := range []string{top, inner} {
			if dir == inner {
				give := (c | PIDs) & m.hier[i].ctl // the helper limits tasks, too
				require.NoError(t, enableIn(m.hier[i], m.hier[i].mount, give))
				require.NoError(t, enableIn(m.hier[i], top, give))
			}
			require.NoError(t, os.Mkdir(dir, 0o755))
			t.Cleanup(func() { require.NoError(t, os.Remove(dir)) })
		}
		for _, f := range []string{"", "/cgroup.procs", "/cgroup.subtree_control", "/cgroup.threads"} {
			require.NoError(t, os.Chown(inner+f, 65534, 65534))
		}
		try := func(lives string) string {
			fd, err := os.Open(lives)
			require.NoError(t, err)
			defer fd.Close()
			cmd := asUser(t, helper(t, "group", "mine", c.String()))
			cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(fd.Fd())
			return output(t, cmd)
		}
		require.Contains(t, try(inner), "device or resource busy (processes live in "+inner+" itself: move them to a cgroup below it")
		home := inner + "/home"
		require.NoError(t, os.Mkdir(home, 0o755))
		t.Cleanup(func() { require.NoError(t, os.Remove(home)) })
		require.NoError(t, os.Chown(home, 65534, 65534))
		require.NoError(t, os.Chown(home+"/cgroup.procs", 65534, 65534))
		require.Equal(t, "made "+inner+"/sandbox.mine.g", try(home))
	}
}

// A parent that somebody else has is no use, one that is the user's own is, on v1, too.
func TestForeignParent(t *testing.T) {
	m, err := detect("")
	require.NoError(t, err)
	h := m.hier[slices.IndexFunc(m.hier, func(h *hierarchy) bool { return h.ctl&PIDs != 0 })]
	parent := unique()
	dir := h.mount + "/" + parent
	require.NoError(t, os.Mkdir(dir, 0o755))
	t.Cleanup(func() { require.NoError(t, os.Remove(dir)) })
	try := func() string {
		cmd := asUser(t, helper(t, "group", "mine", "pids"))
		cmd.Env = append(cmd.Env, "CGROUP_TEST_PARENT="+parent)
		return output(t, cmd)
	}
	if h.v2 {
		require.NoError(t, enableIn(h, h.mount, PIDs))
		require.Contains(t, try(), dir+"/cgroup.subtree_control: permission denied (run as root, or have a cgroup delegated")
		require.NoError(t, enableIn(h, dir, PIDs))
	}
	require.Contains(t, try(), "mkdir "+dir+"/mine.g: permission denied (run as root, or have a cgroup delegated")
	require.NoError(t, os.Chown(dir, 65534, 65534))
	require.Equal(t, "made "+dir+"/mine.g", try())
}

// What is no directory for groups is refused, and nothing is made.
func TestBadParent(t *testing.T) {
	tree, err := Open(Options{Name: "x", Parent: "cgroup.procs"})
	if err == nil { // v1 alone sees it when it makes something
		_, err = tree.New("g", Limits{PIDs: 1})
	}
	require.ErrorIs(t, err, syscall.ENOTDIR)
	_, err = Open(Options{Name: "x", Parent: "/sys/fs/cgroup/memory/x"})
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.ErrorContains(t, err, `Parent: "/sys/fs/cgroup/memory/x": absolute: it is the path in each hierarchy`)

	if !has(t, Unified) {
		return
	}
	m, err := detect("")
	require.NoError(t, err)
	h := m.hier[slices.IndexFunc(m.hier, func(h *hierarchy) bool { return h.v2 })]
	parent := unique()
	for _, dir := range []string{h.mount + "/" + parent, h.mount + "/" + parent + "/threads"} {
		require.NoError(t, os.Mkdir(dir, 0o755))
		t.Cleanup(func() { require.NoError(t, os.Remove(dir)) })
	}
	require.NoError(t, os.WriteFile(h.mount+"/"+parent+"/threads/cgroup.type", []byte("threaded"), 0))
	_, err = Open(Options{Name: "x", Parent: parent + "/threads"})
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "/threads: threaded (name a directory whose cgroup.type is domain)")
}

func TestMissing(t *testing.T) {
	all := []string{}
	m, err := detect("")
	require.NoError(t, err)
	for _, h := range m.hier {
		all = append(all, h.mount)
	}
	dir := func(c Controllers) string {
		if !has(t, c) {
			return ""
		}
		i := slices.IndexFunc(m.hier, func(h *hierarchy) bool { return h.ctl&c != 0 })
		return m.hier[i].mount
	}
	missing := "not mounted (mount -t cgroup -o memory"
	if m.mode == ModeV2 {
		missing = "not mounted (mount cgroup2"
	}
	for _, c := range []struct{ name, umount, readonly, cover, limit, want string }{
		{"control", "", "", "", "memory", "made "},
		{"one", dir(Memory), "", "", "memory", "cgroup memory controller: " + missing},
		{"all", strings.Join(all, " "), "", "", "pids", "cgroup pids controller: not mounted"},
		{"no v2", dir(Unified), "", "", "unified", "cgroup unified controller: not mounted"},
		// The second of two hierarchies refuses: the first is undone.
		{"covered", "", "", dir(Memory), "memory", "cgroup memory controller: not mounted"},
		{"read-only", "", dir(PIDs), "", "memory", "read-only file system (run as root, or have"},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := unique()
			cmd := helper(t, "group", name, c.limit)
			cmd.Env = append(cmd.Env, "CGROUP_TEST_UMOUNT="+c.umount, "CGROUP_TEST_READONLY="+c.readonly, "CGROUP_TEST_COVER="+c.cover)
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
			b, err := cmd.CombinedOutput()
			require.Contains(t, string(b), c.want, "%v", err)
			if c.name != "control" {
				require.NotContains(t, string(b), "unsupported=false")
			}
			require.Empty(t, dirs(name))
		})
	}
}
