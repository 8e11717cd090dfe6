package sandbox_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/image"
	"github.com/seed-5a9fb6e0/sandbox/internal/imagetest"
	"github.com/seed-5a9fb6e0/sandbox/rootfs"
)

// changes are all kinds of them.
const changes = `set -e
	rm -rf /var; mkdir /var; echo new >/var/new
	rm /etc/group; rm -r /home/user; mkdir -p /home/user/deep/er; echo f >/home/user/f; ln /home/user/f /home/user/g
	mv /usr /usr2; ln -s /nowhere /dangling; mkfifo /pipe; chmod 4711 /home/user/f; chmod 1777 /home
	echo more >>/etc/passwd; rm /root -r; echo a file >/root; rm /sbin; mkdir /sbin
	touch -d '2001-02-03 04:05:06' /home/user/deep; echo x >'/odd
name'`

// describeAll has all that is in the image's own files.
const describeAll = `find / -xdev ! -path '/proc*' ! -path '/sys*' ! -path '/dev*' ! -path '/job*' ! -path '/secret' ! -path '/bin/*' ! -path /etc/hostname ! -path /etc/hosts ! -path '/etc/resolv.conf' |
	sort | while read -r f; do echo "$f $(stat -c '%A %u %g %s %h' "$f") $(readlink "$f")"; test ! -f "$f" || md5sum <"$f"; done`

// A sandbox's changes become an image: sandboxes made of it begin with them, and go on apart.
func TestCommit(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		needsUnion(t)
		registry := imagetest.Registry(t)
		imagetest.Push(t, registry+"/busybox:1", imagetest.Busybox(t))
		st := store(t)
		secret := "not for an image"
		o := sandbox.Options{Store: st, Image: registry + "/busybox:1", Mounts: []rootfs.Mount{
			{Type: rootfs.File, Target: "/secret", Data: []byte(secret), Mode: 0o400}, {Type: rootfs.Tmpfs, Target: "/job", Writable: true}}}
		sb := box(t, o)
		shell(t, sb, changes+"; echo "+secret[:3]+"$(cut -c4- /secret) >/job/copy")
		root := shell(t, sb, describeAll)
		img, err := sb.Commit(t.Context(), "app:1", sandbox.CommitOptions{Author: "me", Comment: "all kinds", Edit: func(c *image.Config) {
			c.Env, c.Cmd = append(c.Env, "COMMITTED=1"), []string{"/bin/sh", "-c", "echo $COMMITTED"}
		}})
		require.NoError(t, err)
		var archive bytes.Buffer
		require.NoError(t, st.Images().Save(t.Context(), "app:1", &archive))
		require.NotContains(t, archive.String(), secret)
		require.NoError(t, st.Images().Push(t.Context(), "app:1", registry+"/app:pushed", image.PushOptions{}))

		for _, ref := range []string{"app:1", registry + "/app:pushed"} {
			fork := box(t, sandbox.Options{Store: st, Image: ref})
			require.Equal(t, root, shell(t, fork, describeAll))
			require.Equal(t, "1", output(t, fork, sandbox.Entrypoint()))
			require.Equal(t, "2001-02-03", shell(t, fork, "date -r /home/user/deep +%Y-%m-%d"))
			shell(t, fork, "echo apart >/apart; rm -rf /var")
		}
		require.Equal(t, "new", shell(t, box(t, sandbox.Options{Store: st, Image: "app:1", Pull: image.PullOptions{Policy: image.PullNever}}), "ls /var; ls /apart 2>/dev/null; true"))
		// On top of that, once more, with nothing changed.
		again, err := box(t, sandbox.Options{Store: st, Image: "app:1"}).Commit(t.Context(), "app:2", sandbox.CommitOptions{})
		require.NoError(t, err)
		require.Equal(t, img.Config, again.Config)
		require.Equal(t, root, shell(t, box(t, sandbox.Options{Store: st, Image: "app:2"}), describeAll))

		require.NoError(t, sb.Close())
		_, err = sb.Commit(t.Context(), "app:3", sandbox.CommitOptions{})
		require.Error(t, err)
	})
}

// Diff tells what docker diff would.
func TestDiff(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		needsUnion(t)
		registry := imagetest.Registry(t)
		imagetest.Push(t, registry+"/layers:1", imagetest.Image(t,
			imagetest.Layer(t, imagetest.Dir("a", 0o755), imagetest.File("a/gone", "x", 0o644), imagetest.File("a/kept", "x", 0o644), imagetest.Dir("o", 0o755), imagetest.File("o/hidden", "x", 0o644)),
			imagetest.Layer(t, imagetest.Dir("a", 0o755), imagetest.Whiteout("a/.wh.gone"), imagetest.Dir("o", 0o755), imagetest.Whiteout("o/.wh..wh..opq"), imagetest.File("o/seen", "x", 0o644), imagetest.File("f", "x", 0o644))))
		root := skeleton(t)
		writeFile(t, root, "var/old", "old", 0o644)
		diff := func(sb *sandbox.Sandbox) string {
			list, err := sb.Diff(t.Context())
			require.NoError(t, err)
			var lines []string
			for _, c := range list {
				lines = append(lines, fmt.Sprint(c.Kind, c.Path))
			}
			return strings.Join(lines, " ")
		}
		sb := box(t, sandbox.Options{Image: registry + "/layers:1", Mounts: []rootfs.Mount{{Type: rootfs.File, Target: "/file"}}})
		require.NoError(t, sb.Prepare(t.Context()))
		require.Empty(t, strings.Trim(diff(sb), "CA/tmprunec "), "places of mounts")
		files, err := sb.Root(t.Context())
		require.NoError(t, err)
		require.NoError(t, errors.Join(files.WriteFile("/a/gone", nil, 0o644), files.WriteFile("/o/hidden", nil, 0o644), files.WriteFile("/a/kept", []byte("more"), 0o644),
			files.Remove("/f"), files.Mkdir("/new", 0o755), files.WriteFile("/new/f", nil, 0o644), files.Remove("/o/seen"), files.WriteFile("/a/temporary", nil, 0o644), files.Remove("/a/temporary")))
		got := " " + diff(sb) + " "
		for _, want := range []string{" C/a ", " A/a/gone ", " C/a/kept ", " D/f ", " A/new ", " A/new/f ", " C/o ", " A/o/hidden ", " D/o/seen "} {
			require.Contains(t, got, want)
		}
		require.NotContains(t, got, "temporary")
		require.NotContains(t, got, "/etc/hosts")

		// What a command can't do by a name: remove others' files in the image, or hide what it did.
		for _, name := range []string{"/etc/.wh.passwd", "/a/.wh..wh..opq", "/.wh..."} {
			require.NoError(t, errors.Join(files.MkdirAll("/etc", 0o755), files.WriteFile(name, nil, 0o644)))
			_, err = sb.Diff(t.Context())
			require.ErrorIs(t, err, fs.ErrInvalid, name)
			require.ErrorContains(t, err, name[1:])
			_, err = sb.Commit(t.Context(), "spoofed", sandbox.CommitOptions{})
			require.ErrorIs(t, err, fs.ErrInvalid, name)
			require.NoError(t, files.Remove(name))
		}
		_, err = sb.Diff(t.Context())
		require.NoError(t, err)
		deep := "/0" + strings.Repeat("/d", rootfs.MaxCopyDepth+1)
		require.NoError(t, files.MkdirAll(deep, 0o755))
		_, err = sb.Diff(t.Context())
		require.ErrorAs(t, err, new(*rootfs.LimitError), "not a part of the list")

		sb = box(t, sandbox.Options{Rootfs: root})
		shell(t, sb, "rm -r /var && mkdir /var && touch /var/new")
		got = " " + diff(sb) + " "
		require.Contains(t, got, " C/var A/var/new ")
		require.NotContains(t, got, "old")
		_, err = box(t, sandbox.Options{}).Diff(t.Context())
		require.ErrorIs(t, err, errors.ErrUnsupported)
	})
}

// What can't be committed says so, and a bad name is refused.
func TestCommitErrors(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		needsUnion(t)
		registry := imagetest.Registry(t)
		imagetest.Push(t, registry+"/busybox:1", imagetest.Busybox(t))
		o := sandbox.Options{Image: registry + "/busybox:1"}
		for name, o := range map[string]sandbox.Options{"host userland": {}, "rootfs": {Rootfs: skeleton(t)}} {
			_, err := box(t, o).Commit(t.Context(), "x", sandbox.CommitOptions{})
			require.ErrorIs(t, err, errors.ErrUnsupported, name)
		}
		sb := box(t, o)
		for _, ref := range []string{"", "oci:/x", "UPPER", "x@sha256:" + strings.Repeat("0", 64)} {
			_, err := sb.Commit(t.Context(), ref, sandbox.CommitOptions{})
			require.ErrorIs(t, err, fs.ErrInvalid, ref)
		}
		o.Limits.Disk = 64 << 20
		if !noDisk(t, sandbox.Options{Rootfs: skeleton(t), Limits: o.Limits}) {
			_, err := box(t, o).Commit(t.Context(), "x", sandbox.CommitOptions{})
			if os.Geteuid() == 0 {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, errors.ErrUnsupported)
			}
		}
	})
}
