package imagetest

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// busyboxPath is where Debian's busybox-static puts it.
const busyboxPath = "/bin/busybox"

// Busybox is a small image that runs: Debian's static busybox, its applets as hard links in /bin (and /usr/bin linked to
// it), and what a C library looks for in /etc. It needs the package busybox-static.
func Busybox(t testing.TB) v1.Image {
	t.Helper()
	bin, err := os.ReadFile(busyboxPath)
	if err != nil {
		t.Fatalf("the package busybox-static is needed: %v", err)
	}
	img := ImageFor(t, runtime.GOARCH, Layer(t, append(skeleton(), applets(t, string(bin))...)...))
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf = cf.DeepCopy()
	cf.Config = v1.Config{Env: []string{"PATH=/bin:/usr/bin"}, Cmd: []string{"sh"}}
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		t.Fatal(err)
	}
	return img
}

func skeleton() []Entry {
	entries := []Entry{}
	for _, d := range []string{"bin/", "etc/", "dev/", "proc/", "sys/", "run/", "usr/", "var/", "var/log/", "home/"} {
		entries = append(entries, Dir(d, 0o755))
	}
	entries = append(entries, Dir("root/", 0o700), Dir("tmp/", 0o1777),
		Symlink("usr/bin", "../bin"), Symlink("sbin", "bin"),
		File("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\nuser:x:1000:1000::/home/user:/bin/sh\n", 0o644),
		File("etc/group", "root:x:0:\nnogroup:x:65534:\nuser:x:1000:\nextra:x:2000:user\n", 0o644),
		File("etc/hostname", "busybox\n", 0o644), File("etc/hosts", "127.0.0.1 localhost\n", 0o644))
	home := Dir("home/user/", 0o755)
	home.Uid, home.Gid = 1000, 1000
	return append(entries, home)
}

// applets are links to the binary under the names that it says it has.
func applets(t testing.TB, bin string) []Entry {
	t.Helper()
	out, err := exec.Command(busyboxPath, "--list").Output()
	if err != nil {
		t.Fatalf("busybox --list: %v", err)
	}
	entries := []Entry{File("bin/busybox", bin, 0o755)}
	for _, applet := range strings.Fields(string(out)) {
		switch applet {
		case "busybox":
		case "sh":
			entries = append(entries, Symlink("bin/sh", "busybox"))
		default:
			link := Link("bin/"+applet, "bin/busybox")
			link.Mode = 0o755 // as tar(1) has it; podman gives the file that of its last link
			entries = append(entries, link)
		}
	}
	return entries
}
