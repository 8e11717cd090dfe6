//go:build linux && !race

package vmtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
	"github.com/seed-5a9fb6e0/sandbox/internal/vmtest/plan"
)

// A suite is the tests of a package that a guest runs.
type suite struct {
	name string // of the subtest
	pkg  string // its directory, from the root of the module
	run  string // a pattern of the tests that run; "": all
	skip string // a pattern of those that don't
}

// modules that a guest loads for the tests: of its disk, and of what sandboxes are made of.
var modules = []string{"virtio_pci", "virtio_blk", "ext4", "overlay", "veth", "bridge", "nf_tables", "nft_chain_nat", "nft_masq", "unix_diag", "inet_diag", "af_packet", "tun", "loop", "erofs", "fuse", "bfq"}

// machineKind is a kernel and what it mounts.
type machineKind struct {
	release string // of Debian, whose kernel it is; "": that of this machine
	cgroup  string
	skips   *regexp.Regexp // what tests skip for there; nil: none may
}

// runSuites boots a guest that runs the suites, and makes their results this test's.
func runSuites(t *testing.T, m machineKind, limit time.Duration, suites ...suite) {
	testenv.Root(t)
	dir := t.TempDir()
	g, err := newGuest(m)
	require.NoError(t, err)
	for i, s := range suites {
		exe := fmt.Sprintf("payload/src/%d.test", i)
		g.files[exe] = file{mode: 0o755, data: build(t, "amd64", "test", "-c", "./"+s.pkg)}
		g.plan.Programs = append(g.plan.Programs, s.program("/src/"+filepath.Base(exe), limit))
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit+time.Minute, fmt.Errorf("the guest took more than %v", limit+time.Minute))
	defer cancel()
	start := time.Now()
	results, console, err := g.run(ctx, dir, build(t, "amd64", "build", "./internal/vmtest/init"))
	t.Logf("the guest took %v", time.Since(start).Round(time.Millisecond))
	for i, s := range suites {
		out, end := outputOf(results, g.plan.Programs[i])
		t.Run(s.name, func(t *testing.T) { replay(t, out, end, m.skips) })
	}
	if err != nil || t.Failed() {
		t.Errorf("guest: %v; its kernel said:\n%s", err, console)
	}
}

func newGuest(m machineKind) (*guest, error) {
	own, err := newDebian("amd64", "")
	if err != nil {
		return nil, err
	}
	disk, err := own.disk()
	if err != nil {
		return nil, err
	}
	d, err := newDebian("amd64", m.release)
	if err != nil {
		return nil, err
	}
	k, err := d.kernel("linux-image-cloud-amd64")
	if err != nil {
		return nil, err
	}
	g := &guest{qemu: amd64(), kernel: k.image, options: "console=ttyS0", disk: disk, plan: plan.Plan{
		Disk: "/dev/vda", Payload: "/payload", Cgroup: m.cgroup, Results: "/dev/ttyS1",
	}}
	if m.cgroup == plan.CgroupV2 {
		g.options += " cgroup_no_v1=all"
	}
	ms, err := k.load(modules)
	g.addModules(ms)
	return g, err
}

// program runs the suite's test binary.
func (s suite) program(exe string, limit time.Duration) plan.Program {
	p := plan.Program{
		Name: s.name, Dir: "/src",
		Args: []string{exe, "-test.v=test2json", "-test.timeout=" + limit.String()},
		Env:  []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "LANG=C.UTF-8", "GOTRACEBACK=all"},
	}
	if s.run != "" {
		p.Args = append(p.Args, "-test.run="+s.run)
	}
	if s.skip != "" {
		p.Args = append(p.Args, "-test.skip="+s.skip)
	}
	return p
}

// build makes a static program of this module for an architecture.
func build(t *testing.T, arch string, args ...string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "program")
	cmd := exec.Command("go", append([]string{args[0], "-o", out}, args[1:]...)...)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOARCH="+arch, "CGO_ENABLED=0")
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", text)
	data, err := os.ReadFile(out)
	require.NoError(t, err)
	return data
}
