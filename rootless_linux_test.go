package sandbox_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/escape"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// asEachUser runs f as root, as a user with one id, and as one with subordinate ids.
func asEachUser(t *testing.T, f func(t *testing.T)) {
	asRootAndUser(t, f)
	t.Run("subordinate ids", func(t *testing.T) {
		escape.Program(t)
		if !testenv.AsSubIDUser(t) {
			f(t)
		}
	})
}

// oneID says whether f is run by a user who can map only himself.
func oneID(t *testing.T) bool { return strings.HasSuffix(t.Name(), "/user") }

// The same sandbox for everybody, as far as one can tell from inside.
func TestEachUser(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		for name, o := range map[string]sandbox.Options{"host userland": {Name: "box"}, "rootfs": {Name: "box", Rootfs: skeleton(t)}} {
			t.Run(name, func(t *testing.T) {
				sb := box(t, o)
				out := shell(t, sb, "echo $$; hostname; id -u; id -g; pwd; echo $HOME; touch /tmp/x && stat -c %u:%g /tmp/x /; cat /proc/sys/kernel/ostype")
				top := "0:0"
				if o.Rootfs == "" && os.Geteuid() == 0 {
					top = "65534:65534" // "/" is every sandbox's, and nobody's
				}
				require.Equal(t, []string{"1", "box", "0", "0", "/", "/root", "0:0", top, "Linux"}, strings.Fields(out))
			})
		}
	})
}

// Id maps are what Applied says; nobody is mapped to the machine's root.
func TestIDMaps(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		sb := box(t, sandbox.Options{})
		res, err := sb.Run(t.Context(), sandbox.Command("true"))
		require.NoError(t, err)
		trim := func(s string) string {
			lines := strings.Split(strings.TrimSpace(s), "\n")
			for i, l := range lines {
				lines[i] = strings.Join(strings.Fields(l), " ")
			}
			return strings.Join(lines, "\n")
		}
		require.Equal(t, trim(res.Applied.UIDs), trim(shell(t, sb, "cat /proc/self/uid_map")))
		require.Equal(t, trim(res.Applied.GIDs), trim(shell(t, sb, "cat /proc/self/gid_map")))
		count := 0
		for line := range strings.Lines(res.Applied.UIDs) {
			f := strings.Fields(line)
			outside, err := strconv.Atoi(f[1])
			require.NoError(t, err)
			require.NotZero(t, outside)
			n, err := strconv.Atoi(f[2])
			require.NoError(t, err)
			count += n
		}
		switch {
		case oneID(t):
			require.Equal(t, 1, count)
		case os.Getuid() == 0:
			require.Equal(t, 65536, count)
		default:
			require.Equal(t, 65537, count)
		}
	})
}

// Two sandboxes of root have no id in common, be it one after the other while both live.
func TestIDsAreApart(t *testing.T) {
	testenv.Root(t)
	st := store(t)
	seen := map[string]bool{}
	for range 8 {
		sb := box(t, sandbox.Options{Store: st})
		res, err := sb.Run(t.Context(), sandbox.Command("true"))
		require.NoError(t, err)
		require.False(t, seen[res.Applied.UIDs], "two live sandboxes have the ids %s", res.Applied.UIDs)
		seen[res.Applied.UIDs] = true
	}
}

// Files of any owner can be made where there are ids, and Close removes them.
func TestOwners(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		dir := t.TempDir()
		st, err := sandbox.Open(dir)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, st.Close()) })
		sb := box(t, sandbox.Options{Store: st, Rootfs: skeleton(t)})
		require.Equal(t, "ok", shell(t, sb, "mkdir -p /srv/a/b && touch /srv/a/b/c && chmod 700 /srv/a && echo ok"))
		if oneID(t) {
			require.Equal(t, "EINVAL", inside(t, sb, "chown", "/srv", "1000"))
		} else {
			require.Equal(t, "1000:1000", shell(t, sb, "chown -R 1000:1000 /srv && stat -c %u:%g /srv/a/b/c"))
			require.Equal(t, "uid=1000(user) gid=1000(user) groups=2000(extra)", output(t, sb, &sandbox.Cmd{Args: []string{"id"}, User: "user"}))
			require.Equal(t, "ok", output(t, sb, &sandbox.Cmd{Args: []string{"sh", "-c", "umask 077; mkdir /srv/a/own && touch /srv/a/own/f && echo ok"}, User: "user"}))
		}
		require.NoError(t, sb.Close())
		left, err := os.ReadDir(filepath.Join(dir, "sandboxes"))
		require.NoError(t, err)
		require.Empty(t, left)
	})
}

// What a user may not have is said with the remedy, never left out.
func TestUnsupported(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		if os.Getuid() == 0 {
			return // has all of it: other tests show
		}
		st := store(t)
		for name, c := range map[string]struct {
			o    sandbox.Options
			cmd  sandbox.Cmd
			says string
		}{
			"user":      {cmd: sandbox.Cmd{User: "1000"}, says: "/etc/subuid"},
			"root":      {o: sandbox.Options{User: "1000"}, cmd: sandbox.Cmd{User: "0"}, says: "/etc/subuid"},
			"group":     {o: sandbox.Options{User: "1000"}, cmd: sandbox.Cmd{User: "1000:7"}, says: "/etc/subgid"},
			"memory":    {cmd: sandbox.Cmd{Limits: sandbox.Limits{Memory: 1 << 30}}, says: "cgroup"},
			"sb memory": {o: sandbox.Options{Limits: sandbox.Limits{Memory: 1 << 30}}, says: "cgroup"},
			"pids":      {cmd: sandbox.Cmd{Limits: sandbox.Limits{PIDs: 10}}, says: "cgroup"},
			"cpus":      {cmd: sandbox.Cmd{Limits: sandbox.Limits{CPUs: 1}}, says: "cgroup"},
			"files":     {cmd: sandbox.Cmd{Limits: sandbox.Limits{OpenFiles: 1 << 29}}, says: "LimitNOFILE"},
		} {
			t.Run(name, func(t *testing.T) {
				o := c.o
				o.Store = st
				c.cmd.Args = []string{"true"}
				res, err := sandbox.Run(t.Context(), o, &c.cmd)
				require.Nil(t, res)
				require.ErrorIs(t, err, errors.ErrUnsupported)
				require.Contains(t, err.Error(), c.says)
				t.Log(err)
			})
		}
		// His own id under another number is to be had.
		sb := box(t, sandbox.Options{Store: st, User: "1000:50"})
		require.Equal(t, "1000 50", strings.Join(strings.Fields(shell(t, sb, "id -u; id -g; exec true")), " "))
	})
}

// What is below is the lower layer, which nothing changes, and the upper, which lives as long as the sandbox.
func TestRootfs(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		root := skeleton(t)
		before := treeState(t, root)
		st := store(t)
		sb := sandbox.New(sandbox.Options{Store: st, Rootfs: root})
		require.Equal(t, "new", shell(t, sb, "echo new >/new && echo more >>/etc/passwd && rm /bin/touch && mkdir -p /bin/x && rm -r /tmp && mkdir /tmp && mv /etc/group /etc/moved && chmod 700 /root && ln /bin/busybox /linked && cat /new"))
		require.Equal(t, "new more 700", strings.Join(strings.Fields(shell(t, sb, "cat /new; tail -1 /etc/passwd 2>/dev/null || busybox tail -1 /etc/passwd; stat -c %a /root")), " "), "the next command does not see it")
		require.Equal(t, "1", shell(t, sb, "ls /bin/touch /etc/group >/dev/null 2>&1; echo $?"))
		again := box(t, sandbox.Options{Store: st, Rootfs: root})
		require.Equal(t, "1", shell(t, again, "ls /new /linked /bin/x >/dev/null 2>&1; echo $?"), "another sandbox sees it")
		require.NoError(t, sb.Close())
		require.Equal(t, before, treeState(t, root))
	})
}

func TestOddRootfs(t *testing.T) {
	outside := t.TempDir()
	for name, c := range map[string]func(t *testing.T, root string){
		"nothing there": func(t *testing.T, root string) {
			for _, dir := range []string{"dev", "proc", "sys", "etc", "tmp"} {
				require.NoError(t, os.RemoveAll(filepath.Join(root, dir)))
			}
		},
		"dev is a link":         func(t *testing.T, root string) { relink(t, outside, filepath.Join(root, "dev")) },
		"proc is a link":        func(t *testing.T, root string) { relink(t, "/bin", filepath.Join(root, "proc")) },
		"sys is a link":         func(t *testing.T, root string) { relink(t, "../../../tmp", filepath.Join(root, "sys")) },
		"etc is a link":         func(t *testing.T, root string) { relink(t, "/usr", filepath.Join(root, "etc")) },
		"dev is a file":         func(t *testing.T, root string) { refile(t, filepath.Join(root, "dev")) },
		"proc is a file":        func(t *testing.T, root string) { refile(t, filepath.Join(root, "proc")) },
		"resolv.conf is a link": func(t *testing.T, root string) { relink(t, outside+"/resolv", filepath.Join(root, "etc/resolv.conf")) },
		"resolv.conf is a dir": func(t *testing.T, root string) {
			require.NoError(t, os.Mkdir(filepath.Join(root, "etc/resolv.conf"), 0o755))
		},
		"hosts is a loop": func(t *testing.T, root string) { relink(t, "hosts", filepath.Join(root, "etc/hosts")) },
		"hostname is a fifo": func(t *testing.T, root string) {
			require.NoError(t, syscall.Mkfifo(filepath.Join(root, "etc/hostname"), 0o644))
		},
		"shm is a link in dev": func(t *testing.T, root string) { relink(t, "/etc", filepath.Join(root, "dev/shm")) },
		"closed to all": func(t *testing.T, root string) {
			etc := filepath.Join(root, "etc")
			require.NoError(t, os.Chmod(etc, 0o500))
			t.Cleanup(func() { _ = os.Chmod(etc, 0o755) }) // or a user can't remove it
		},
		"run and tmp are links": func(t *testing.T, root string) {
			relink(t, outside, filepath.Join(root, "tmp"))
			relink(t, outside, filepath.Join(root, "run"))
		},
		"working dir is to make": func(*testing.T, string) {},
	} {
		t.Run(name, func(t *testing.T) {
			asRootAndUser(t, func(t *testing.T) {
				root := skeleton(t)
				c(t, root)
				before := treeState(t, root)
				for _, readOnly := range []bool{false, true} {
					sb := sandbox.New(sandbox.Options{Store: store(t), Name: "odd", Rootfs: root, ReadOnly: readOnly})
					out := shell(t, sb, "echo x >/dev/null; cat /proc/1/comm; cat /etc/hostname; grep -c odd /etc/hosts; cat /etc/resolv.conf; ls /sys >/dev/null && stat -c %t:%T /dev/null")
					require.Equal(t, "sh\nodd\n1\n# no network, no name servers\n1:3", out)
					require.NoError(t, sb.Close())
				}
				require.Equal(t, before, treeState(t, root))
				left, err := os.ReadDir(outside)
				if err == nil { // a user can't look
					require.Empty(t, left)
				}
			})
		})
	}
}

func relink(t *testing.T, target, name string) {
	require.NoError(t, errors.Join(os.RemoveAll(name), os.Symlink(target, name)))
}

func refile(t *testing.T, name string) {
	require.NoError(t, errors.Join(os.RemoveAll(name), os.WriteFile(name, nil, 0o644)))
}
