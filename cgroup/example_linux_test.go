package cgroup_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"github.com/seed-5a9fb6e0/sandbox/cgroup"
)

// Limit and account a process that runs already, with all that it starts from then on. Needs root or a delegated
// cgroup.
func Example() {
	ctx := context.Background()
	cmd := exec.Command("sh", "-c", "read go; sleep 0 & sleep 0 & wait; echo done")
	start, _ := cmd.StdinPipe()
	_ = cmd.Start()

	tree, err := cgroup.Open(cgroup.Options{Name: "example-" + strconv.Itoa(os.Getpid()), Controllers: cgroup.Accounting})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer tree.Close(ctx)
	group, err := tree.New("job", cgroup.Limits{Memory: 64 << 20, PIDs: 32, CPUs: 0.5})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = group.Add(cmd.Process.Pid)
	_ = start.Close()
	_ = cmd.Wait()
	usage, _ := group.Usage()
	events, _ := group.Events()
	fmt.Println(err, usage.PIDsPeak, usage.CPU.Value > 0, "OOM kills:", events.OOMKills)
	// Output: <nil> 3 true OOM kills: 0
}

// A command that is to run inside from its first instruction enters by itself.
func ExampleGroup_Join() {
	ctx := context.Background()
	tree, err := cgroup.Open(cgroup.Options{Name: "join-" + strconv.Itoa(os.Getpid())})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer tree.Close(ctx)
	leaf, err := tree.Leaf(ctx, cgroup.Limits{PIDs: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer leaf.Release()
	join, err := leaf.Join()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer join.Close()
	cmd := exec.Command("sh", "-c", `echo 0 >&3; (echo "never forked") 2>/dev/null || echo "no second process"`)
	cmd.ExtraFiles = join.Tasks // v1; on v2 join.Dir is for SysProcAttr.CgroupFD
	cmd.Stderr = nil
	_, _ = cmd.Output()
	events, _ := leaf.Events()
	fmt.Println("refused forks:", events.PIDsHits)
	// Output: refused forks: 1
}

// Limits are checked all at once, before anything is made.
func ExampleLimits_Validate() {
	fmt.Println(cgroup.Limits{Memory: -1, CPUs: 0.0001}.Validate())
	// Output:
	// Memory: -1: negative
	// CPUs: 0.0001: below 0.01, the least that the kernel enforces (1 ms in a period of 100 ms)
}
