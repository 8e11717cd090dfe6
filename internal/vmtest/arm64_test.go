//go:build linux && guest

package vmtest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The tests of internal/spawn that run on arm64: those that need nothing but a shell, within two minutes. What is left
// out needs gcc, cgroup v1, gigabytes, kernel 6.15, or much time.
const spawnTests = "^(TestLayout|TestStart|TestStartHere|TestStartAfterJoin|TestRun|TestResult|TestForeignThreadEnds" +
	"|TestCollectorAndProfiler|TestStopTheWorld|TestSignalDispositions|TestSignalsWait" +
	"|TestCancelAtEachStep|TestKilledAtEachStep|TestCancelAtRandom|TestCancelBefore" +
	"|TestManyDescriptors|TestNothingInherited|TestSwappedStdio|TestManyFiles|TestDescriptorLimit" +
	"|TestTooManyInFlight|TestNothingLeftInSocket|TestDumpableStays|TestNotDumpable|TestEmbedderKilled" +
	"|TestErrorNamesTheCall|TestNothingAfterFailure|TestExecError|TestMisuse|TestNUL|TestWaitContext|TestWaitTakesNoThread)$"

// TestSpawnOnArm64 runs them under Debian's arm64 kernel. Needs qemu-system-aarch64 (Debian: qemu-system-arm).
func TestSpawnOnArm64(t *testing.T) {
	debian, err := newDebian("arm64")
	require.NoError(t, err)
	kernel, err := debian.unpacked("linux-image-cloud-arm64", true)
	require.NoError(t, err)
	busybox, err := debian.unpacked("busybox-static", false)
	require.NoError(t, err)
	images, err := filepath.Glob(kernel + "/boot/vmlinuz-*")
	require.NoError(t, err)
	require.Len(t, images, 1)

	dir := t.TempDir()
	files := map[string]file{
		"init":              {mode: 0o755, data: build(t, dir, "build", "./internal/vmtest/init")},
		"test":              {mode: 0o755, data: build(t, dir, "test", "-c", "./internal/spawn")},
		"args":              {mode: 0o644, data: []byte("-test.v\n-test.short\n-test.timeout=5m\n-test.run=" + spawnTests)},
		"bin/busybox":       {mode: 0o755, data: read(t, busybox+"/bin/busybox")},
		"src/clone_amd64.s": {mode: 0o644, data: read(t, "../spawn/clone_amd64.s")},
		"src/clone_arm64.s": {mode: 0o644, data: read(t, "../spawn/clone_arm64.s")},
	}
	for _, applet := range []string{"sh", "sleep", "true", "ls", "cat", "readlink"} {
		files["bin/"+applet] = file{link: "busybox"}
	}
	var initramfs bytes.Buffer
	require.NoError(t, writeInitramfs(&initramfs, files))
	initrd := filepath.Join(dir, "initrd")
	require.NoError(t, os.WriteFile(initrd, initramfs.Bytes(), 0o644))

	qemu := exec.CommandContext(t.Context(), "qemu-system-aarch64", "-accel", "tcg,thread=multi", "-machine", "virt",
		"-cpu", "max,pauth-impdef=on", "-smp", "2", "-m", "2048", "-nic", "none", "-nographic", "-no-reboot",
		"-kernel", images[0], "-initrd", initrd, "-append", "console=ttyAMA0 quiet panic=-1")
	start := time.Now()
	out, err := qemu.CombinedOutput()
	t.Logf("%v\n%s", time.Since(start), out)
	require.NoError(t, err)
	text := strings.ReplaceAll(string(out), "\r", "")
	for _, want := range []string{"\nguest: result: <nil>\n", "\nPASS\n", "\n--- PASS: TestCancelAtEachStep"} {
		require.True(t, strings.Contains(text, want), "the guest did not print %q", want)
	}
	require.False(t, strings.Contains(text, "--- SKIP"), "a test was skipped")
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	return data
}

// build makes a static arm64 program of this module.
func build(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	out := filepath.Join(dir, "program")
	cmd := exec.Command("go", append([]string{args[0], "-o", out}, args[1:]...)...)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0")
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", text)
	return read(t, out)
}
