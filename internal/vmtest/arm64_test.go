//go:build linux && guest

package vmtest

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox/internal/vmtest/plan"
)

// The tests of internal/spawn that run on arm64: those that need nothing but a shell, within two minutes. What is left
// out needs gcc, cgroup v1, gigabytes, kernel 6.15, or much time.
const spawnTests = "^(TestLayout|TestStart|TestStartHere|TestStartAfterJoin|TestRun|TestResult|TestForeignThreadEnds" +
	"|TestCollectorAndProfiler|TestStopTheWorld|TestSignalDispositions|TestSignalsWait" +
	"|TestCancelAtEachStep|TestKilledAtEachStep|TestCancelAtRandom|TestCancelBefore" +
	"|TestManyDescriptors|TestNothingInherited|TestSwappedStdio|TestManyFiles|TestDescriptorLimit" +
	"|TestTooManyInFlight|TestNothingLeftInSocket|TestDumpableStays|TestNotDumpable|TestEmbedderKilled" +
	"|TestInitAttributes|TestInitSignals|TestInitExecError|TestInitKilledAtEachStep" +
	"|TestErrorNamesTheCall|TestNothingAfterFailure|TestExecError|TestMisuse|TestNUL|TestWaitContext|TestWaitTakesNoThread)$"

// TestSpawnOnArm64 runs them under Debian's arm64 kernel. Needs qemu-system-aarch64 (Debian: qemu-system-arm).
func TestSpawnOnArm64(t *testing.T) {
	debian, err := newDebian("arm64", "")
	require.NoError(t, err)
	k, err := debian.kernel("linux-image-cloud-arm64")
	require.NoError(t, err)
	busybox, err := debian.unpacked("busybox-static", false)
	require.NoError(t, err)

	spawn := plan.Program{
		Name: "spawn", Dir: "/src", Args: []string{"/test", "-test.v=test2json", "-test.short", "-test.timeout=15m", "-test.run=" + spawnTests},
		Env: []string{"PATH=/bin:/usr/bin", "HOME=/tmp", "TMPDIR=/tmp", "GOTRACEBACK=all"},
	}
	g := &guest{
		qemu:   []string{"qemu-system-aarch64", "-accel", "tcg,thread=multi", "-machine", "virt", "-cpu", "max,pauth-impdef=on", "-smp", "2", "-m", "2048"},
		kernel: k.image, options: "console=ttyAMA0", plan: plan.Plan{Programs: []plan.Program{spawn}},
		files: map[string]file{
			"test":              {mode: 0o755, data: build(t, "arm64", "test", "-c", "./internal/spawn")},
			"bin/busybox":       {mode: 0o755, data: read(t, busybox+"/bin/busybox")},
			"src/clone_amd64.s": {mode: 0o644, data: read(t, "../spawn/clone_amd64.s")},
			"src/clone_arm64.s": {mode: 0o644, data: read(t, "../spawn/clone_arm64.s")},
		},
	}
	for _, applet := range []string{"sh", "sleep", "true", "ls", "cat", "readlink"} {
		g.files["bin/"+applet] = file{link: "busybox"}
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 16*time.Minute, fmt.Errorf("the guest took more than 16 minutes"))
	defer cancel()
	results, _, err := g.run(ctx, t.TempDir(), build(t, "arm64", "build", "./internal/vmtest/init"))
	require.NoError(t, err, "%s", results)
	out, end := outputOf(results, spawn)
	replay(t, out, end, nil)
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	return data
}
