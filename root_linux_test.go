package sandbox_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/rootfs"
)

// Files go in and out of a sandbox as its root's, before, between and while commands run.
func TestRoot(t *testing.T) {
	mountRoots(t, func(t *testing.T, o sandbox.Options) {
		o.Mounts = []rootfs.Mount{{Type: rootfs.Tmpfs, Target: "/job", Writable: true}, {Type: rootfs.File, Target: "/secret", Data: []byte("s"), Mode: 0o400}}
		sb := box(t, o)
		root, err := sb.Root(t.Context())
		require.NoError(t, err)
		host := source(t)
		require.NoError(t, root.WriteFile("/job/in", []byte("from outside"), 0o640))
		require.Equal(t, "0 0 640 from outside", shell(t, sb, "echo $(stat -c '%u %g %a' /job/in) $(cat /job/in)"))
		shell(t, sb, "mkdir -p /job/out && echo result >/job/out/file && ln -s /job/out /job/link && ln -s "+host+"/file /job/evil")
		b, err := root.ReadFile("job/link/file")
		require.NoError(t, err)
		require.Equal(t, "result\n", string(b))
		_, err = root.ReadFile("/job/evil")
		require.ErrorIs(t, err, fs.ErrNotExist, "the host has one")
		b, err = fs.ReadFile(root.FS(), "secret")
		require.NoError(t, err)
		require.Equal(t, "s", string(b))
		require.ErrorIs(t, root.WriteFile("/secret", nil, 0o600), unix.EROFS)

		require.NoError(t, root.CopyFS(t.Context(), "/job", fstest.MapFS{"src": {Mode: fs.ModeDir | 0o755}, "src/main.c": {Data: []byte("int main;"), Mode: 0o444}}, rootfs.CopyOptions{}))
		require.Equal(t, "int main; 0 0 444", shell(t, sb, "cd /job/src && echo $(cat main.c) $(stat -c '%u %g %a' main.c)"))
		var archive bytes.Buffer
		require.NoError(t, root.CopyOut(t.Context(), "/job", &archive, rootfs.CopyOptions{}))
		var names []string
		for r := tar.NewReader(&archive); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			require.Zero(t, h.Uid+h.Gid, "ids of the sandbox")
			names = append(names, h.Name)
		}
		require.Equal(t, "./ evil in link out/ out/file src/ src/main.c", strings.Join(names, " "))
		require.NoError(t, root.RemoveAll(t.Context(), "/job/out"))
		require.Equal(t, "evil in link src", shell(t, sb, "echo $(ls /job)"))

		// The whole, with what the kernel and the host put in.
		var whole bytes.Buffer
		require.NoError(t, root.CopyOut(t.Context(), "/etc", &whole, rootfs.CopyOptions{}))
		entries, err := root.ReadDir("/")
		require.NoError(t, err)
		require.NotEmpty(t, entries)
		_, err = root.ReadDir("/proc/1")
		require.ErrorIs(t, err, fs.ErrNotExist, "nobody's processes")

		require.NoError(t, sb.Close())
		_, err = root.ReadFile("/job/in")
		require.ErrorIs(t, err, os.ErrClosed)
		require.ErrorIs(t, root.CopyOut(t.Context(), "/", io.Discard, rootfs.CopyOptions{}), os.ErrClosed)
		_, err = sb.Root(t.Context())
		require.ErrorIs(t, err, os.ErrClosed)
	})
}

// A command that renames, links and makes FIFOs and sockets in a loop neither leads the embedder out of the sandbox nor keeps
// it waiting.
func TestRootHostile(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		leaks(t)
		sb := box(t, sandbox.Options{})
		root, err := sb.Root(t.Context())
		require.NoError(t, err)
		host := t.TempDir()
		require.NoError(t, os.WriteFile(host+"/secret", []byte("the host's own"), 0o644))
		p, err := sb.Start(t.Context(), sandbox.Command("sh", "-c", fmt.Sprintf(`mkdir /tmp/d /tmp/real; cd /tmp; echo inside >real/secret
			while :; do
				ln -s %[1]s d/x; rm -f d/x; mkfifo d/x; rm d/x; ln -s /proc/1/root%[1]s d/x; rm -f d/x; echo inside >d/secret
				rm -rf d; ln -s ../../../../../..%[1]s d; rm d; mkfifo d; rm d; mkdir d; echo x >d/$((i+=1))
			done`, host)))
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			b, _ := root.ReadFile("/tmp/real/secret")
			return string(b) == "inside\n"
		}, 10*time.Second, time.Millisecond)
		var all sync.WaitGroup
		read := 0
		for range 2 {
			all.Go(func() {
				for range 150 {
					for _, name := range []string{"/tmp/d/secret", "/tmp/d/x/secret", "/tmp/d/x", "/tmp/d"} {
						b, _ := root.ReadFile(name)
						if strings.Contains(string(b), "host") {
							t.Errorf("%s is %q", name, b)
						}
					}
					_ = root.WriteFile("/tmp/d/x", []byte("written"), 0o644)
					_ = root.WriteFile("/tmp/d/secret", []byte("written"), 0o644)
					_ = root.CopyFS(t.Context(), "/tmp/d", fstest.MapFS{"secret": {Data: []byte("written")}, "x/secret": {Data: []byte("written")}}, rootfs.CopyOptions{})
					_ = root.Chmod("/tmp/d/x", 0o777)
					_ = root.Remove("/tmp/d/secret")
					var out bytes.Buffer
					_ = root.CopyOut(t.Context(), "/tmp", &out, rootfs.CopyOptions{})
					if strings.Contains(out.String(), "the host's own") {
						t.Error("CopyOut has the host's file")
					}
				}
			})
		}
		all.Go(func() {
			for range 300 {
				if b, err := root.ReadFile("/tmp/real/secret"); err == nil && string(b) == "inside\n" {
					read++
				}
			}
		})
		all.Wait()
		require.Equal(t, 300, read, "what nobody touches can always be read")
		require.NoError(t, p.Kill())
		_, err = p.Wait(t.Context())
		require.NoError(t, err)
		b, err := os.ReadFile(host + "/secret")
		require.NoError(t, err)
		require.Equal(t, "the host's own", string(b))
		list, err := os.ReadDir(host)
		require.NoError(t, err)
		require.Len(t, list, 1)
	})
}
