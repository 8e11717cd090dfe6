package sandbox_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/image"
	"github.com/seed-5a9fb6e0/sandbox/internal/imagetest"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
	"github.com/seed-5a9fb6e0/sandbox/netns"
	"github.com/seed-5a9fb6e0/sandbox/rootfs"
)

// mountRoots are the kinds of root that a Mount is put into.
func mountRoots(t *testing.T, f func(t *testing.T, o sandbox.Options)) {
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		root := skeleton(t)
		for name, o := range map[string]sandbox.Options{"host userland": {}, "rootfs": {Rootfs: root}, "read-only rootfs": {Rootfs: root, ReadOnly: true},
			"host network": {Network: netns.Config{Mode: netns.Host}}} {
			t.Run(name, func(t *testing.T) { f(t, o) })
		}
	})
}

// source is a directory of a host's user, with a file of his.
func source(t testing.TB) string {
	dir := filepath.Join(t.TempDir(), "source")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), []byte("of the host\n"), 0o600))
	if os.Geteuid() == 0 {
		require.NoError(t, errors.Join(os.Chown(dir, 1234, 1235), os.Chown(filepath.Join(dir, "file"), 1234, 1235)))
	}
	return dir
}

// owners are user and group of a host's file.
func owners(t testing.TB, name string) string {
	info, err := os.Lstat(name)
	require.NoError(t, err)
	st := info.Sys().(*syscall.Stat_t)
	return fmt.Sprint(st.Uid, " ", st.Gid)
}

// A Bind shows the host's files as root's, changes them only where it is Writable, and what is written there is the
// host's owner's.
func TestMountBind(t *testing.T) {
	mountRoots(t, func(t *testing.T, o sandbox.Options) {
		dir, data := source(t), source(t)
		o.Mounts = []rootfs.Mount{
			{Type: rootfs.Bind, Source: dir, Target: "/srv/deep/ro"},
			{Type: rootfs.Bind, Source: data, Target: "/data", Writable: true},
			{Type: rootfs.Bind, Source: dir + "/file", Target: "/etc/app.conf"},
			{Type: rootfs.Bind, Source: data + "/file", Target: "/tmp/rw-file", Writable: true},
		}
		sb := box(t, o)
		require.Equal(t, "of the host\nof the host", shell(t, sb, "cat /srv/deep/ro/file /etc/app.conf"))
		require.Equal(t, "0 0 600", shell(t, sb, "stat -c '%u %g %a' /data/file"))
		require.Contains(t, shell(t, sb, "touch /srv/deep/ro/new 2>&1; echo x 2>&1 >/etc/app.conf; true"), "Read-only file system")
		require.Contains(t, shell(t, sb, "(echo x >/etc/app.conf) 2>&1; true"), "Read-only file system")
		require.Equal(t, "", shell(t, sb, "mkdir -p /data/made && echo inside >/data/made/new && echo changed >/tmp/rw-file"))
		got, err := os.ReadFile(data + "/made/new")
		require.NoError(t, err)
		require.Equal(t, "inside\n", string(got))
		got, err = os.ReadFile(data + "/file")
		require.NoError(t, err)
		require.Equal(t, "changed\n", string(got))
		require.Equal(t, owners(t, data), owners(t, data+"/made/new"))
		for _, line := range strings.Split(shell(t, sb, "grep -e ' /srv/deep/ro ' -e ' /data ' -e ' /etc/app.conf ' /proc/self/mountinfo"), "\n") {
			require.Contains(t, line, "nosuid,nodev")
		}
		require.Equal(t, "inside", shell(t, sb, "cat /data/made/new"), "another command sees it")
	})
}

// The owner of a Bind's source can be another user than root inside, as root can have it.
func TestMountBindOwner(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		needsUnion(t)
		dir := source(t)
		sb := box(t, sandbox.Options{Mounts: []rootfs.Mount{{Type: rootfs.Bind, Source: dir, Target: "/data", Writable: true, UID: 1000, GID: 1001}}})
		cmd := sandbox.Command("sh", "-c", "stat -c '%u %g' /data/file; touch /data/new")
		cmd.User = "1000:1001"
		if os.Geteuid() != 0 {
			_, err := sb.Run(t.Context(), cmd)
			require.ErrorIs(t, err, errors.ErrUnsupported)
			return
		}
		require.Equal(t, "1000 1001", output(t, sb, cmd))
		require.Equal(t, "1234 1235", owners(t, dir+"/new"))
		require.Contains(t, shell(t, sb, "touch /data/root 2>&1; true"), "Value too large", "only they can make files there")
	})
}

// Tmpfs and File mounts are in memory, shared by the sandbox's commands, and as big as they may be.
func TestMountMemory(t *testing.T) {
	mountRoots(t, func(t *testing.T, o sandbox.Options) {
		data := []byte("#!/bin/sh\necho secret\n")
		o.Mounts = []rootfs.Mount{
			{Type: rootfs.Tmpfs, Target: "/job", Writable: true, Size: 64 << 10, Inodes: 10},
			{Type: rootfs.Tmpfs, Target: "/job/inner", Mode: 0o750, Writable: true},
			{Type: rootfs.Tmpfs, Target: "/empty"},
			{Type: rootfs.File, Target: "/run/secrets/token", Data: data},
			{Type: rootfs.File, Target: "/job/run", Data: data, Mode: 0o755},
			{Type: rootfs.File, Target: "/job/rw", Data: data, Mode: 0o600, Writable: true},
			{Type: rootfs.File, Target: "/none"},
		}
		sb := box(t, o)
		require.Equal(t, "1777 750", shell(t, sb, "stat -c %a /job /job/inner | paste -sd ' ' 2>/dev/null || echo $(stat -c %a /job /job/inner)"))
		require.Equal(t, "444 0", shell(t, sb, "stat -c '%a %u' /run/secrets/token"))
		require.Equal(t, "secret", shell(t, sb, "/job/run"))
		require.Equal(t, strings.TrimSpace(string(data)), shell(t, sb, "cat /run/secrets/token"))
		require.Equal(t, "0", shell(t, sb, "cat /none | grep -c ''; true"))
		for _, name := range []string{"/run/secrets/token", "/job/run", "/none", "/empty/new"} {
			require.Contains(t, shell(t, sb, "(echo x >"+name+") 2>&1; true"), "Read-only file system", name)
		}
		require.Equal(t, "x", shell(t, sb, "echo x >/job/rw; cat /job/rw"))
		require.Equal(t, "#!/bin/sh", strings.Split(string(data), "\n")[0])
		require.Equal(t, "kept", shell(t, sb, "echo kept >/job/f; cat /job/f"))
		require.Equal(t, "kept", shell(t, sb, "cat /job/f"))
		require.Contains(t, shell(t, sb, "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do touch /job/n$i 2>&1; done; true"), "No space left")
		require.Contains(t, shell(t, sb, "rm /job/n*; (cat /bin/sh /bin/sh >/job/big) 2>&1; true"), "No space left")
		require.Empty(t, shell(t, sb, "grep -c /dev/.empty /proc/self/mountinfo | grep -v '^0$'; true"))
	})
}

// Where a Mount can't be is an error that says so, and leaves nothing.
func TestMountRefused(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		root, dir := skeleton(t), source(t)
		require.NoError(t, os.Symlink("tmp", filepath.Join(root, "link")))
		for _, c := range []struct {
			o    sandbox.Options
			is   error
			says string
		}{
			{sandbox.Options{}, syscall.ENOENT, "/usr/absent"},
			{sandbox.Options{Rootfs: root}, syscall.ELOOP, "/link/x"},
			{sandbox.Options{Rootfs: root}, syscall.ENOTDIR, "/bin/busybox/x"},
		} {
			c.o.Mounts = []rootfs.Mount{{Type: rootfs.Bind, Source: dir, Target: c.says}}
			sb := box(t, c.o)
			err := sb.Prepare(t.Context())
			require.ErrorIs(t, err, c.is)
			require.ErrorContains(t, err, c.says)
		}
		for says, m := range map[string]rootfs.Mount{
			"Options.Mounts[0].Type":                           {Target: "/x"},
			"Options.Mounts[0].Source: empty":                  {Type: rootfs.Bind, Target: "/x"},
			"no such file":                                     {Type: rootfs.Bind, Source: dir + "/absent", Target: "/x"},
			`Options.Mounts[0].Target: "/proc/x": the sandbox`: {Type: rootfs.Tmpfs, Target: "/proc/x"},
		} {
			err := box(t, sandbox.Options{Mounts: []rootfs.Mount{m}}).Prepare(t.Context())
			require.ErrorIs(t, err, fs.ErrInvalid, says)
			require.ErrorContains(t, err, says)
		}
		twice := rootfs.Mount{Type: rootfs.Tmpfs, Target: "/x"}
		require.ErrorContains(t, box(t, sandbox.Options{Mounts: []rootfs.Mount{twice, twice}}).Prepare(t.Context()), "the target of another one")
		err := box(t, sandbox.Options{Mounts: []rootfs.Mount{{Type: rootfs.Image, Source: "UPPER", Target: "/x"}}}).Prepare(t.Context())
		require.ErrorIs(t, err, fs.ErrInvalid)
		require.ErrorContains(t, err, "Options.Mounts[0].Source")
		absent := sandbox.Options{Pull: image.PullOptions{Policy: image.PullNever}, Mounts: []rootfs.Mount{{Type: rootfs.Image, Source: "absent", Target: "/x"}}}
		require.ErrorIs(t, box(t, absent).Prepare(t.Context()), fs.ErrNotExist)
	})
}

// An Image mount shows another image's tree, read-only, and keeps it while it is mounted.
func TestMountImage(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		needsUnion(t)
		registry := imagetest.Registry(t)
		owned := imagetest.File("data/owned", "mine", 0o640)
		owned.Uid, owned.Gid = 33, 44
		lower := imagetest.Layer(t, imagetest.Dir("data", 0o755), imagetest.File("data/gone", "x", 0o644), owned)
		imagetest.Push(t, registry+"/one:1", imagetest.ImageFor(t, runtime.GOARCH, lower))
		imagetest.Push(t, registry+"/two:1", imagetest.ImageFor(t, runtime.GOARCH, lower, imagetest.Layer(t, imagetest.Whiteout("data/.wh.gone"), imagetest.File("data/new", "new", 0o644))))
		imagetest.Push(t, registry+"/none:1", imagetest.ImageFor(t, runtime.GOARCH))
		st := store(t)
		mounts := []rootfs.Mount{{Type: rootfs.Image, Source: registry + "/one:1", Target: "/one"}, {Type: rootfs.Image, Source: registry + "/two:1", Target: "/two"},
			{Type: rootfs.Image, Source: registry + "/none:1", Target: "/none"}, {Type: rootfs.Tmpfs, Target: "/two/data", Writable: true}}
		for name, o := range map[string]sandbox.Options{"host userland": {}, "rootfs": {Rootfs: skeleton(t)}} {
			t.Run(name, func(t *testing.T) {
				o.Store, o.Mounts = st, mounts[:3]
				sb := box(t, o)
				require.Equal(t, "gone owned new owned", shell(t, sb, "echo $(ls /one/data /two/data | grep -v :)"))
				require.Equal(t, "mine new 0", shell(t, sb, "echo $(cat /one/data/owned) $(cat /two/data/new) $(ls /none | wc -l 2>/dev/null || echo 0)"))
				owner := "33 44 640"
				if os.Geteuid() != 0 {
					owner = "0 0 640" // as he unpacks it
				}
				require.Equal(t, owner, shell(t, sb, "stat -c '%u %g %a' /two/data/owned"))
				for _, dir := range []string{"/one", "/two/data", "/none"} {
					require.Contains(t, shell(t, sb, "touch "+dir+"/x 2>&1; true"), "Read-only file system", dir)
				}
				o.Mounts = mounts
				require.Equal(t, "", shell(t, box(t, o), "ls /two/data"), "what is mounted over it")
			})
		}
		sb := box(t, sandbox.Options{Store: st, Mounts: mounts[:2]})
		require.NoError(t, sb.Prepare(t.Context()))
		for _, ref := range []string{"/one:1", "/two:1", "/none:1"} {
			require.NoError(t, st.Images().Remove(t.Context(), registry+ref))
		}
		_, err := st.Images().Prune(t.Context())
		require.NoError(t, err)
		require.Equal(t, "new", shell(t, sb, "cat /two/data/new"))
		require.NoError(t, sb.Close())
		p, err := st.Images().Prune(t.Context())
		require.NoError(t, err)
		require.Equal(t, 2, p.Layers)
	})
}

// What another one mounts below a Bind's source is not there for root, and never writable where the Bind is not.
func TestMountBindSubmount(t *testing.T) {
	testenv.Root(t)
	leaks(t)
	needsUnion(t)
	dir := source(t)
	require.NoError(t, os.Mkdir(dir+"/sub", 0o777))
	require.NoError(t, syscall.Mount("tmpfs", dir+"/sub", "tmpfs", 0, ""))
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir+"/sub", 0)) })
	require.NoError(t, os.WriteFile(dir+"/sub/hidden", nil, 0o666))
	sb := box(t, sandbox.Options{Mounts: []rootfs.Mount{{Type: rootfs.Bind, Source: dir, Target: "/data"}}})
	require.Empty(t, shell(t, sb, "ls /data/sub"))
	require.Contains(t, shell(t, sb, "touch /data/sub/x 2>&1; true"), "Read-only file system")
}

// What is made per Run begins anew with each command, also with those that run at the same time, and whatever a command did
// to the place.
func TestMountPerRun(t *testing.T) {
	mountRoots(t, func(t *testing.T, o sandbox.Options) {
		o.Mounts = []rootfs.Mount{
			{Type: rootfs.Tmpfs, Target: "/job", Scope: rootfs.PerRun, Writable: true, Size: 1 << 20},
			{Type: rootfs.File, Target: "/job/in", Data: []byte("input"), Scope: rootfs.PerRun, Writable: true},
			{Type: rootfs.File, Target: "/conf", Data: []byte("conf"), Scope: rootfs.PerRun},
		}
		sb := box(t, o)
		cmd := sandbox.Command("sh", "-c", "ls /job; cat /job/in /conf; echo changed >/job/in; touch /job/left; (echo x >/conf) 2>/dev/null || echo ' safe'")
		for i := range 4 {
			c := *cmd
			c.Init = i%2 == 1
			require.Equal(t, "in\ninputconf safe", output(t, sb, &c))
		}
		first, err := sb.Start(t.Context(), sandbox.Command("sh", "-c", "echo mine >/job/in; exec sleep 1000"))
		require.NoError(t, err)
		require.Equal(t, "in\ninputconf safe", output(t, sb, cmd))
		require.NoError(t, first.Kill())
		_, err = first.Wait(t.Context())
		require.NoError(t, err)
	})
}

// A command that takes the place away, or has a link in its stead, keeps others from starting, with an error that names it:
// nothing is mounted elsewhere.
func TestMountPlaceTaken(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		for _, attack := range []string{"mv /srv /gone", "mv /srv /gone; mkdir /srv; ln -s /etc /srv/job", "mv /srv /gone; ln -s /proc/1/root/etc /srv"} {
			sb := box(t, sandbox.Options{Rootfs: skeleton(t), Mounts: []rootfs.Mount{{Type: rootfs.Tmpfs, Target: "/srv/job", Scope: rootfs.PerRun}}})
			shell(t, sb, attack)
			_, err := sb.Run(t.Context(), sandbox.Command("true"))
			require.ErrorContains(t, err, "/srv/job", attack)
		}
	})
}

// A command's Files are its own: there before it starts, as its user's, and for nobody else.
func TestCmdFiles(t *testing.T) {
	mountRoots(t, func(t *testing.T, o sandbox.Options) {
		o.Mounts = []rootfs.Mount{
			{Type: rootfs.Tmpfs, Target: "/w", Scope: rootfs.PerRun, Writable: true, Size: 4 << 20},
			{Type: rootfs.Tmpfs, Target: "/w/small", Scope: rootfs.PerRun, Size: 64 << 10},
			{Type: rootfs.Tmpfs, Target: "/shared", Writable: true},
		}
		sb := box(t, o)
		big := make([]byte, 3<<20)
		for i := range big {
			big[i] = byte(i)
		}
		for _, user := range []string{"", "1000"} {
			if user != "" && strings.Contains(t.Name(), "/user/") { // who has one id
				continue
			}
			cmd := &sandbox.Cmd{User: user, Files: []sandbox.File{
				{Name: "/w/run", Data: []byte("#!/bin/sh\necho ran; echo x >>/w/in/deep/data; cat /w/in/deep/data /w/small/f; stat -c %a /w/in/deep/data\n"), Mode: 0o755},
				{Name: "/w/in/deep/data", Data: []byte("data\n")}, {Name: "/w/empty"}, {Name: "/w/small/f", Data: []byte("small\n")},
				{Name: "/w/big", Data: big},
			}, Args: []string{"/w/run"}}
			for range 2 {
				require.Equal(t, "ran\ndata\nx\nsmall\n644", output(t, sb, cmd))
			}
			cmd.Args = []string{"cat", "/w/big"}
			out, err := sb.Output(t.Context(), cmd)
			require.NoError(t, err)
			require.Equal(t, big, out)
		}
		require.Equal(t, "small", shell(t, sb, "ls -A /w"))
		require.Contains(t, shell(t, sb, "touch /w/small/x 2>&1; true"), "Read-only file system")

		_, err := sb.Run(t.Context(), &sandbox.Cmd{Args: []string{"true"}, Files: []sandbox.File{{Name: "/w/big", Data: make([]byte, 5<<20)}}})
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.ErrorContains(t, err, "/w/big")
		for says, f := range map[string]sandbox.File{
			"in no Tmpfs": {Name: "/shared/x"}, "absolute, clean": {Name: "/w/../x"}, "permission bits": {Name: "/w/x", Mode: fs.ModeSetuid},
		} {
			_, err := sb.Run(t.Context(), &sandbox.Cmd{Args: []string{"true"}, Files: []sandbox.File{f}})
			require.ErrorIs(t, err, fs.ErrInvalid, says)
			require.ErrorContains(t, err, says)
		}
	})
}
