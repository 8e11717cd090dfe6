//go:build linux && !race

package vmtest

import (
	"testing"
	"time"

	"github.com/seed-5a9fb6e0/sandbox/internal/vmtest/plan"
)

// The tests of the root package that depend on cgroups: what limits do, which verdicts come of them, and how a command is
// started in a group and ended with it. The others have nothing to do with the mode and are left to `make matrix`: the
// processor that qemu emulates is some twenty times slower, and all of them would take longer than the rest of CI.
// Left out are also those that measure processor time and would have to wait for minutes of it (TestCPUs, TestUsage,
// TestCPUTime, TestCorpus).
const limitTests = "^(TestMemoryLimit|TestTinyMemoryLimit|TestPIDsLimit|TestForkBomb|TestLimitsUnsupported|TestUnlimitedOpenFiles" +
	"|TestWall|TestUpdate|TestUpdateBad|TestHello|TestRootfs|TestCloseDuringRun|TestSignalFromOutside|TestProcesses|TestDaemonsEndWithPID1)$"

// TestV2 runs the suites on a machine that has cgroup v2 only. The machine of CI has v1.
func TestV2(t *testing.T) {
	runSuites(t, machineKind{cgroup: plan.CgroupV2}, 9*time.Minute,
		suite{name: "cgroup", pkg: "cgroup"},
		suite{name: "sandbox", pkg: ".", run: limitTests})
}
