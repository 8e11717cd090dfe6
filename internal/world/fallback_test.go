//go:build linux

package world

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// look runs a script in a new World and returns what it prints.
func look(t *testing.T, root Root, script string) string {
	t.Helper()
	ns, err := NewNamespaces(t.Context(), testMap(), true)
	require.NoError(t, err)
	w, err := Build(t.Context(), Spec{Namespaces: ns, Map: testMap(), Hostname: "box", Root: root})
	require.NoError(t, err)
	defer w.Close()
	r, out, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	p, err := w.Start(t.Context(), Command{Paths: []string{"/bin/sh"}, Args: []string{"sh", "-c", script}, Dir: "/",
		Env: []string{"PATH=/usr/bin:/bin"}, Files: []*os.File{nil, out, out}})
	require.NoError(t, err)
	require.NoError(t, out.Close())
	text := make([]byte, 0, 1<<16)
	for buf := make([]byte, 4096); ; {
		n, err := r.Read(buf)
		text = append(text, buf[:n]...)
		if err != nil {
			break
		}
	}
	s, err := p.Wait(t.Context())
	require.NoError(t, err)
	require.Equal(t, unix.WaitStatus(0), s.Status, "%s", text)
	require.NoError(t, p.Close())
	return string(text)
}

// Numbers of mounts and devices differ from World to World.
var numbers = regexp.MustCompile(`(?m)^\d+ \d+ \d+:\d+ `)

// Without a feature of newer kernels a World looks the same from inside.
func TestFallbacks(t *testing.T) {
	const script = `cat /proc/self/mountinfo; ls -lAR /dev | grep -v ^total; touch /usr/x /etc/x /dev/x /proc/sys/x 2>&1; echo ok >/tmp/x; cat /tmp/x`
	for name, f := range map[string]*feature{"mount_setattr": features.mountSetattr, "keyrings": features.keyrings, "pidfd namespaces": features.pidfdNamespace} {
		t.Run(name, func(t *testing.T) {
			require.True(t, f.supported(), "this kernel lacks it: nothing to compare with")
			want := numbers.ReplaceAllString(look(t, HostRoot{}, script), "")
			f.force(true)
			defer f.force(false)
			got := numbers.ReplaceAllString(look(t, HostRoot{}, script), "")
			require.Equal(t, clock.ReplaceAllString(want, ""), clock.ReplaceAllString(got, ""))
			require.Contains(t, got, "Read-only file system")
		})
	}
}

// A command that would keep the host's clocks is not started.
func TestNoClock(t *testing.T) {
	require.True(t, commandClock.supported() || !commandClock.probe(), "the probe is steady")
	commandClock.force(true)
	defer commandClock.force(false)
	ns, err := NewNamespaces(t.Context(), testMap(), true)
	require.NoError(t, err)
	w, err := Build(t.Context(), Spec{Namespaces: ns, Map: testMap(), Hostname: "box", Root: HostRoot{}})
	require.NoError(t, err)
	defer w.Close()
	_, err = w.Start(t.Context(), Command{Paths: []string{"/bin/sh"}, Args: []string{"sh"}, Dir: "/", Clock: &Clock{Boottime: 100}})
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "6.2")
}

var clock = regexp.MustCompile(`\d\d:\d\d`)

// An ordinary user's overlay by one option that names all layers, as before 6.8.
func TestLowerdirFallback(t *testing.T) {
	dir := t.TempDir()
	if os.Getuid() == 0 {
		require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
		require.NoError(t, os.Chmod(dir, 0o755))
	}
	busybox, err := os.ReadFile("/bin/busybox")
	require.NoError(t, err)
	// Names that have to be quoted in the option, and together longer than what fsconfig(2) takes.
	long := strings.Repeat("x", 120)
	lower := []string{filepath.Join(dir, "a:b,c"+long), filepath.Join(dir, `d\e`+long)}
	require.NoError(t, os.MkdirAll(lower[0]+"/bin", 0o755))
	require.NoError(t, os.WriteFile(lower[0]+"/bin/busybox", busybox, 0o755))
	require.NoError(t, os.Symlink("busybox", lower[0]+"/bin/sh"))
	require.NoError(t, os.WriteFile(lower[0]+"/which", []byte("bottom"), 0o644))
	require.NoError(t, os.Mkdir(lower[1], 0o755))
	require.NoError(t, os.WriteFile(lower[1]+"/which", []byte("top"), 0o644))
	for _, absent := range []bool{false, true} {
		features.lowerdirPlus.force(absent)
		upper := t.TempDir()
		for _, name := range []string{"up", "work"} {
			require.NoError(t, os.Mkdir(filepath.Join(upper, name), 0o755))
		}
		root := UnionRoot{Lower: lower, Upper: filepath.Join(upper, "up"), Work: filepath.Join(upper, "work")}
		require.NoError(t, (&Spec{Hostname: "box"}).Skeleton(root.Upper, testMap().UIDs[0].Outside))
		owner := fmt.Sprintf("%d:%d", testMap().UIDs[0].Outside, testMap().GIDs[0].Outside)
		require.NoError(t, exec.Command("chown", "-hR", owner, dir, upper).Run())
		if os.Getuid() == 0 {
			require.NoError(t, os.Chmod(filepath.Dir(upper), 0o755))
			require.NoError(t, os.Chmod(upper, 0o755))
		}
		require.Equal(t, "top", strings.TrimSpace(look(t, root, "busybox cat /which; echo changed >/which")))
		changed, err := os.ReadFile(filepath.Join(upper, "up/which"))
		require.NoError(t, err)
		require.Equal(t, "changed\n", string(changed))
	}
	features.lowerdirPlus.force(false)
	kept, err := os.ReadFile(lower[1] + "/which")
	require.NoError(t, err)
	require.Equal(t, "top", string(kept))
}
