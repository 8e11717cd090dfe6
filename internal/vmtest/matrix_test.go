//go:build linux && matrix

package vmtest

import (
	"flag"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-5a9fb6e0/sandbox/internal/vmtest/plan"
)

// What of the root package the matrix leaves out.
const notInGuests = "TestImportGraph|TestThirdParty|TestNoCgo|TestPackageDocs|TestPackageExamples|TestExported|TestExportedRules|TestFiles|TestReadme" + // need sources and go
	"|TestImageDebianPython|TestImageFromRegistry|TestCommitForOthers" + // need mmdebstrap and an archive, or other clients
	"|TestThousandSandboxes|TestStdioIntact|TestEmbedderKilledAnywhere" // take more than five minutes each in a guest

// TestMatrix runs the suites on each kernel in each mode, so that every fallback is run by some real kernel.
func TestMatrix(t *testing.T) {
	noUnions := regexp.MustCompile("no union mounts before Linux 5.12")
	all := []string{plan.CgroupV1, plan.CgroupV2, plan.CgroupHybrid}
	for _, k := range []struct {
		version, release string
		skips            *regexp.Regexp
		modes            []string
		without          string
	}{
		{"5.10", "bullseye", noUnions, all, "|ExampleOptions_mounts"}, // an Example can't skip for want of an idmapped mount
		{"6.1", "bookworm", nil, all, ""},
		{"6.12", "trixie", nil, []string{plan.CgroupV2}, ""}, // built without CONFIG_MEMCG_V1 and CONFIG_CPUSETS_V1
	} {
		for _, mode := range k.modes {
			t.Run(k.version+" "+mode, func(t *testing.T) {
				runSuites(t, machineKind{k.release, mode, k.skips}, 40*time.Minute, asked(k.without)...)
			})
		}
	}
}

// asked are the suites and tests that -run names behind the kind of machine: "TestMatrix/5.10 v1/cgroup/TestMemory".
func asked(without string) []suite {
	parts := append(strings.SplitN(flag.Lookup("test.run").Value.String(), "/", 4), "", "", "")
	names, tests := regexp.MustCompile(parts[2]), parts[3]
	all := []suite{{name: "cgroup", pkg: "cgroup", run: tests}, {name: "sandbox", pkg: ".", run: tests, skip: "^(" + notInGuests + without + ")$"}}
	return slices.DeleteFunc(all, func(s suite) bool { return !names.MatchString(s.name) })
}
