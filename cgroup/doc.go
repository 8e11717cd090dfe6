// Package cgroup limits, accounts and ends process trees by Linux control groups: v1, v2 and hybrid machines behind
// one interface, chosen by what is mounted.
//
//	tree, err := cgroup.Open(cgroup.Options{Name: "app-7", Controllers: cgroup.Accounting})
//	defer tree.Close(ctx)
//	group, err := tree.New("job", cgroup.Limits{Memory: 64 << 20, PIDs: 32, CPUs: 0.5})
//	err = group.Add(cmd.Process.Pid)
//	err = cmd.Wait()
//	usage, err := group.Usage()   // CPU, memory and its peak, tasks: each says whether it was measured
//	events, err := group.Events() // OOM kills, refused forks, throttling
//
// # Model
//
// A [Tree] is what one owner has: the directories PARENT/NAME.GROUP in each hierarchy that is needed, and none for
// itself, so that a tree without groups costs nothing. A [Group] in it has the controllers that its limits and
// Options.Controllers need, and bounds what the groups below it use together. Processes live in groups without groups
// below them. [Group.Leaf] hands out prepared groups for short commands, [Group.Release] removes them in the background,
// several at a time; [Tree.Flush] waits for that.
//
// A child enters best by itself, between clone and exec ([Group.Join]); [Group.Add] moves a process that runs.
// [Group.Update] changes [Limits] while processes run. [Group.Watch] waits for the kernel's notice of events, [Group.Freeze]
// stops all and [Group.Kill] ends all. [Group.Usage] and [Group.Events] are cheap; [Group.MemoryStat] says what the memory
// is and [Group.Pressure] what there was to wait for.
//
// # Guarantees
//
// A limit that can't be enforced is an error (errors.ErrUnsupported, a *[UnsupportedError] with the remedy) and leaves
// nothing behind. Only what the tree made is changed or removed, only processes in it are killed, and never the caller.
// An Update below what is in use kills nobody and is an *[InUseError] for memory, on v2 as on v1.
// With Memory and no Swap a program can't use swap to get around it. Every goroutine of a tree ends by Tree.Close. What an
// owner that was killed left is ended by [Recover]; a Close or Recover that was cut short is gone on with by the next.
// memory.oom.group is never set: the kernel's group kill would take a parent that waits in vfork.
//
// # No guarantees
//
// On v1 a program with Memory and no Swap is kept from swap by memory.swappiness 0, which the kernel heeds for the
// group's own limit; when the whole machine is short of memory up to 4 MiB of it may be swapped out beyond the limit,
// without swap accounting (no memory.memsw files) any amount. A group without a controller
// is not limited by it: its processes stay where they are in that hierarchy, which is their parent's group.
// On v2 of Linux 5.10 a child that is born in a group (Join.Dir) keeps its parent's processors, whatever CPUSet says: it
// has to set its affinity itself, or be moved by Group.Add. (Seen; not on 6.1 and later.)
// [Events].OOMKills counts kills for the limit of any group above, too. An owner whose process ended without Close
// leaves its directories to Recover, and so does one who ends between Release and Flush or Close.
//
// # Where v1 and v2 differ
//
//	                        v1                                v2
//	MemoryHigh, MemoryLow   not supported                     memory.high, memory.low
//	CPUWeight               cpu.shares, 1024 for 100          cpu.weight
//	IO                      a group's own; none below it      bounds the groups below, too
//	IO, written back        counts for nobody                 counts for who wrote
//	Devices                 a list; from none to some only    a BPF program (CAP_BPF)
//	                        while no group is below
//	Watch                   OOM kills                         OOM kills, memory hits, refused forks
//	Pressure                with Unified, on hybrid machines  yes
//	CPU time                to the nanosecond                 to the microsecond
//
// # Privileges and kernels
//
// Root, or a directory that is delegated to the user: on v2 the default parent is looked for there, on v1 name it as
// Options.Parent. Linux 5.10 and later; what needs more says so.
//
// Files are read and written here and not by github.com/containerd/cgroups: making a group with it costs three times as
// much, it knows neither prepared leaves nor joining by birth, and its device filter lets an open for reading and writing
// pass where only reading is allowed. The filter is assembled and loaded by github.com/cilium/ebpf.
package cgroup
