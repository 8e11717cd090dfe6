//go:build linux

package sandbox_test

import (
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/stretchr/testify/require"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/imagetest"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// A busybox image, pulled from a registry on loopback: ps shows the command as PID 1.
func TestImageFromRegistry(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		ref := imagetest.Registry(t) + "/busybox:1"
		imagetest.Push(t, ref, imagetest.Busybox(t))
		sb := box(t, sandbox.Options{Image: ref})
		out, err := sb.Output(t.Context(), sandbox.Command("ps"))
		require.NoError(t, err)
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		require.Len(t, lines, 2, "%s", out)
		require.Equal(t, []string{"1", "root"}, strings.Fields(lines[1])[:2])
	})
}

// withConfig sets fields of an image's config.
func withConfig(t testing.TB, img v1.Image, set func(*v1.Config)) v1.Image {
	file, err := img.ConfigFile()
	require.NoError(t, err)
	c := *file.Config.DeepCopy()
	set(&c)
	img, err = mutate.Config(img, c)
	require.NoError(t, err)
	return img
}

// The image's config is what Options and Cmd leave out.
func TestImageConfig(t *testing.T) { testenv.RootAndUser(t, testImageConfig) }

func testImageConfig(t *testing.T) {
	leaks(t)
	needsUnion(t)
	img := withConfig(t, imagetest.Busybox(t), func(c *v1.Config) {
		c.Entrypoint = []string{"/bin/echo", "entry"}
		c.Cmd = []string{"cmd"}
		c.Env = []string{"FROM=image", "PATH=/bin"}
		c.WorkingDir = "/made/by/image"
	})
	ref := imagetest.Registry(t) + "/conf:1"
	imagetest.Push(t, ref, img)
	st := store(t)
	for name, tt := range map[string]struct {
		cmd  *sandbox.Cmd
		want string
	}{
		"entrypoint and command":  {&sandbox.Cmd{}, "entry cmd"},
		"Entrypoint without args": {sandbox.Entrypoint(), "entry cmd"},
		"Entrypoint with args":    {sandbox.Entrypoint("mine"), "entry mine"},
		"Command":                 {sandbox.Command("echo", "only"), "only"},
		"environment":             {sandbox.Command("sh", "-c", "echo $FROM $PATH"), "image /bin"},
		"environment of the Cmd":  {&sandbox.Cmd{Args: []string{"sh", "-c", "echo $FROM"}, Env: []string{"FROM=cmd"}}, "cmd"},
		"directory":               {sandbox.Command("pwd"), "/made/by/image"},
		"directory of the Cmd":    {&sandbox.Cmd{Args: []string{"pwd"}, Dir: "/tmp"}, "/tmp"},
		"hosts file":              {sandbox.Command("sh", "-c", "grep -c localhost /etc/hosts"), "2"},
		"writes to the root":      {sandbox.Command("sh", "-c", "echo x >/bin/new && cat /bin/new"), "x"},
		"removes and makes a dir": {sandbox.Command("sh", "-c", "rm -r /etc && mkdir /etc && ls /etc | wc -l"), "0"},
		"the upper is its own":    {sandbox.Command("sh", "-c", "ls /bin/new 2>/dev/null || echo fresh"), "fresh"},
	} {
		t.Run(name, func(t *testing.T) {
			sb := box(t, sandbox.Options{Store: st, Image: ref})
			out, err := sb.Output(t.Context(), tt.cmd)
			require.NoError(t, err)
			require.Equal(t, tt.want, strings.TrimSpace(string(out)))
		})
	}
}

// A distribution with a language runtime, pulled by digest and by tag.
func TestImageDebianPython(t *testing.T) {
	testenv.Root(t)
	leaks(t)
	ref := imagetest.Registry(t) + "/debian:python"
	digest := imagetest.Push(t, ref, imagetest.Debian(t))
	st := store(t)
	for _, ref := range []string{ref, strings.TrimSuffix(ref, ":python") + "@" + digest} {
		sb := box(t, sandbox.Options{Store: st, Image: ref})
		out, err := sb.Output(t.Context(), sandbox.Command("python3", "-c", `
import os, pwd
open("/var/lib/written", "w").write("x")
os.setgid(1); os.setuid(1)
print(os.getpid(), pwd.getpwuid(os.getuid()).pw_name, open("/etc/debian_version").read()[:2])`))
		require.NoError(t, err)
		require.Equal(t, "1 daemon 12", strings.TrimSpace(string(out)))
	}
}
