package sandbox_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/image"
	"github.com/seed-5a9fb6e0/sandbox/internal/imagetest"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
	"github.com/seed-5a9fb6e0/sandbox/rootfs"
)

// tool runs another client of registries.
func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	_, err := exec.LookPath(name)
	require.NoError(t, err, "the package %s is needed", name)
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s %s: %s", name, args, stderr.String())
	return strings.TrimSpace(string(out))
}

// podman keeps all that it has in dir.
func podman(t testing.TB, dir string, args ...string) string {
	t.Helper()
	own := []string{"--root", dir + "/root", "--runroot", dir + "/run", "--tmpdir", dir + "/tmp", "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"}
	return tool(t, "podman", append(own, args...)...)
}

// imageTree describes what a directory has, as the tool made it, without what is each sandbox's own.
func imageTree(t testing.TB, dir string) map[string]string {
	t.Helper()
	tree := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := d.Info()
		require.NoError(t, err)
		name, _ := filepath.Rel(dir, path)
		st := info.Sys().(*syscall.Stat_t)
		link, _ := os.Readlink(path)
		content := ""
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			content = fmt.Sprintf("%x", sha256.Sum256(b))
		}
		addToTree(tree, name, info.Mode(), int(st.Uid), int(st.Gid), link, content)
		return nil
	}))
	return tree
}

// sandboxTree is imageTree of a sandbox.
func sandboxTree(t testing.TB, sb *sandbox.Sandbox) map[string]string {
	root, err := sb.Root(t.Context())
	require.NoError(t, err)
	var archive bytes.Buffer
	require.NoError(t, root.CopyOut(t.Context(), "/", &archive, rootfs.CopyOptions{}))
	tree := map[string]string{}
	for r := tar.NewReader(&archive); ; {
		h, err := r.Next()
		if err == io.EOF {
			return tree
		}
		require.NoError(t, err)
		name, content, link := strings.TrimSuffix(h.Name, "/"), "", h.Linkname
		mode := h.FileInfo().Mode()
		switch h.Typeflag {
		case tar.TypeReg:
			b, err := io.ReadAll(r)
			require.NoError(t, err)
			content = fmt.Sprintf("%x", sha256.Sum256(b))
		case tar.TypeLink:
			tree[name], link = tree[strings.TrimSuffix(h.Linkname, "/")], ""
			continue
		}
		addToTree(tree, name, mode, h.Uid, h.Gid, link, content)
	}
}

func addToTree(tree map[string]string, name string, mode fs.FileMode, uid, gid int, link, content string) {
	for _, own := range []string{"dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf", "run"} {
		if name == own || strings.HasPrefix(name, own+"/") {
			return
		}
	}
	tree[name] = fmt.Sprint(mode, " ", uid, " ", gid, " ", link, " ", content)
}

// What others make of a committed image is the same tree, and what they make of it runs here.
func TestCommitForOthers(t *testing.T) {
	testenv.Root(t)
	leaks(t)
	registry := imagetest.Registry(t)
	imagetest.Push(t, registry+"/busybox:1", imagetest.Busybox(t))
	st := store(t)
	sb := box(t, sandbox.Options{Store: st, Image: registry + "/busybox:1"})
	shell(t, sb, changes+"; chown -R 1000:2000 /home/user; mkdir /data; touch /data/x; chown 33:65533 /data/x")
	_, err := sb.Commit(t.Context(), "app:1", sandbox.CommitOptions{Edit: func(c *image.Config) {
		c.Cmd = []string{"/bin/sh", "-c", "cat /var/new; stat -c '%u %g %a' /data/x /home/user/f"}
	}})
	require.NoError(t, err)
	require.NoError(t, st.Images().Push(t.Context(), "app:1", registry+"/app:1", image.PushOptions{}))
	want := sandboxTree(t, box(t, sandbox.Options{Store: st, Image: "app:1"}))
	require.Greater(t, len(want), 250)

	dir := t.TempDir()
	tool(t, "skopeo", "copy", "--src-tls-verify=false", "docker://"+registry+"/app:1", "oci:"+dir+"/layout:app")
	t.Run("skopeo and umoci", func(t *testing.T) {
		tool(t, "umoci", "unpack", "--image", dir+"/layout:app", dir+"/bundle")
		require.Equal(t, want, imageTree(t, dir+"/bundle/rootfs"))
	})
	t.Run("changed by umoci", func(t *testing.T) {
		require.NoError(t, os.WriteFile(dir+"/inserted", []byte("by umoci"), 0o644))
		tool(t, "umoci", "insert", "--image", dir+"/layout:app", dir+"/inserted", "/inserted")
		tool(t, "umoci", "config", "--image", dir+"/layout:app", "--config.env", "BY=umoci")
		require.Equal(t, "by umoci umoci new", shell(t, box(t, sandbox.Options{Image: "oci:" + dir + "/layout:app"}), "echo $(cat /inserted) $BY $(ls /var)"))
	})
	t.Run("podman", func(t *testing.T) {
		store := dir + "/podman"
		podman(t, store, "pull", "-q", "--tls-verify=false", registry+"/app:1")
		mounted := podman(t, store, "image", "mount", registry+"/app:1")
		require.Equal(t, want, imageTree(t, mounted))
		podman(t, store, "image", "unmount", registry+"/app:1")
		require.NoError(t, os.WriteFile(dir+"/Containerfile", []byte("FROM "+registry+"/app:1\nCOPY inserted /by/podman\nENV BY=podman\nUSER 1000\nCMD [\"/bin/cat\", \"/by/podman\"]\n"), 0o644))
		podman(t, store, "build", "-q", "--isolation", "chroot", "-t", registry+"/built:1", dir)
		podman(t, store, "push", "-q", "--tls-verify=false", registry+"/built:1")
		built := box(t, sandbox.Options{Image: registry + "/built:1"})
		require.Equal(t, "by umoci", output(t, built, sandbox.Entrypoint()))
		require.Equal(t, "podman 1000 new", shell(t, built, "echo $BY $(id -u) $(ls /var)"))
		podman(t, store, "save", "-q", "-o", dir+"/built.tar", registry+"/built:1")
		require.Equal(t, "podman 1000 new", shell(t, box(t, sandbox.Options{Image: "docker-archive:" + dir + "/built.tar"}), "echo $BY $(id -u) $(ls /var)"))
	})
	t.Run("saved", func(t *testing.T) {
		f, err := os.Create(dir + "/saved.tar")
		require.NoError(t, err)
		require.NoError(t, st.Images().Save(t.Context(), "app:1", f))
		require.NoError(t, f.Close())
		tool(t, "skopeo", "copy", "oci-archive:"+dir+"/saved.tar", "oci:"+dir+"/saved:app")
		tool(t, "skopeo", "copy", "docker-archive:"+dir+"/saved.tar", "dir:"+dir+"/saved-docker")
		tool(t, "umoci", "unpack", "--image", dir+"/saved:app", dir+"/saved-bundle")
		require.Equal(t, want, imageTree(t, dir+"/saved-bundle/rootfs"))
	})
}
