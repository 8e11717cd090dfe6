package cgroup_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

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
	fmt.Println(err, usage.PIDs.Measured, usage.CPU.Value > 0, "OOM kills:", events.OOMKills)
	// Output: <nil> true true OOM kills: 0
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
	script := `(echo "never forked"); true`
	for i := range join.Tasks { // v1
		script = fmt.Sprintf("echo 0 >&%d; ", 3+i) + script
	}
	cmd := exec.Command("sh", "-c", script)
	cmd.ExtraFiles = join.Tasks
	if join.Dir != nil { // v2
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(join.Dir.Fd())}
	}
	_, _ = cmd.Output()
	events, _ := leaf.Events()
	fmt.Println("refused forks:", events.PIDsHits)
	// Output: refused forks: 1
}

// A program that outgrows its memory is reported when the kernel kills it, without asking again and again.
func ExampleGroup_Watch() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	tree, err := cgroup.Open(cgroup.Options{Name: "watch-" + strconv.Itoa(os.Getpid())})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer tree.Close(ctx)
	group, err := tree.New("job", cgroup.Limits{Memory: 16 << 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	cmd := exec.Command("sh", "-c", "read go; dd if=/dev/zero of=/dev/null bs=64M count=1")
	start, _ := cmd.StdinPipe()
	_ = cmd.Start()
	_ = group.Add(cmd.Process.Pid)
	_ = start.Close()
	for events, err := range group.Watch(ctx) {
		if err != nil {
			fmt.Println(err)
			break
		}
		if events.OOMKills.Value > 0 {
			fmt.Println("out of memory")
			break
		}
	}
	_ = group.Kill(ctx) // what it left half-dead
	_ = cmd.Wait()
	// Output: out of memory
}

// Limits change while processes run. What can't be is refused, and the old limits hold.
func ExampleGroup_Update() {
	ctx := context.Background()
	tree, err := cgroup.Open(cgroup.Options{Name: "update-" + strconv.Itoa(os.Getpid())})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer tree.Close(ctx)
	group, err := tree.New("job", cgroup.Limits{CPUs: 2, PIDs: 100, Devices: cgroup.StandardDevices()})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(group.Update(cgroup.Limits{CPUs: 0.5, CPUWeight: 10, PIDs: 10}))
	fmt.Println(group.Update(cgroup.Limits{HugeTLB: map[int64]int64{1 << 21: 0}}) != nil)
	fmt.Println(group.Limits().CPUs)
	// Output:
	// <nil>
	// true
	// 0.5
}

// Limits are checked all at once, before anything is made.
func ExampleLimits_Validate() {
	fmt.Println(cgroup.Limits{Memory: -1, CPUs: 0.0001}.Validate())
	// Output:
	// Memory: -1: negative
	// CPUs: 0.0001: below 0.01, the least that the kernel enforces (1 ms in a period of 100 ms)
}
