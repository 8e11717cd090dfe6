package sandbox_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/rootfs"
)

// A command over the host's own userland: nothing to prepare, no privilege needed.
func Example() {
	sb := sandbox.New(sandbox.Options{Store: exampleStore(), Hostname: "box"})
	defer sb.Close()
	out, err := sb.Output(context.Background(), sandbox.Command("sh", "-c", "echo PID $$ on $(hostname)"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(out))
	// Output: PID 1 on box
}

// Limits and verdicts: the Result tells how the command ended.
func ExampleRun() {
	res, err := sandbox.Run(context.Background(), sandbox.Options{Store: exampleStore()}, &sandbox.Cmd{
		Args:   []string{"sleep", "10"},
		Limits: sandbox.Limits{Wall: 50 * time.Millisecond},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.Status == sandbox.WallLimit, res.Hit)
	// Output: true [{wall limit command}]
}

// A session with a command: pipes, a signal, and its end.
func ExampleSandbox_Start() {
	ctx := context.Background()
	sb := sandbox.New(sandbox.Options{Store: exampleStore()})
	defer sb.Close()
	p, err := sb.Start(ctx, &sandbox.Cmd{
		Args:  []string{"tr", "a-z", "A-Z"},
		Pipes: sandbox.PipeStdin, Stdout: os.Stdout,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprintln(p.Stdin, "hello")
	p.Stdin.Close()
	res, err := p.Wait(ctx)
	fmt.Println(res, err)
	// Output:
	// HELLO
	// exit status 0 <nil>
}

// All faults of the Options and the Cmd come at once, before anything is made.
func ExampleFieldError() {
	sb := sandbox.New(sandbox.Options{Limits: sandbox.Limits{Memory: -1}, Dir: "here"})
	defer sb.Close()
	err := sb.Prepare(context.Background())
	var field *sandbox.FieldError
	fmt.Println(errors.As(err, &field), strings.Count(err.Error(), "Options."))
	// Output: true 2
}

// A program of somebody else's that only computes: fewer system calls, no capability.
func ExampleSecurity() {
	sb := sandbox.New(sandbox.Options{
		Store:    exampleStore(),
		Security: sandbox.Security{Seccomp: "strict", Capabilities: "none"},
	})
	defer sb.Close()
	out, err := sb.Output(context.Background(), sandbox.Command("grep", "-E", "^(CapEff|Seccomp):", "/proc/self/status"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(out))
	// Output:
	// CapEff:	0000000000000000
	// Seccomp:	2
}

// What this machine can do, before anything is promised to users.
func ExampleCheck() {
	r := sandbox.Check(context.Background())
	if err := r.Err(); err != nil {
		log.Fatal(err) // no sandbox at all: says why, and what to do
	}
	for _, f := range r.Features {
		if f.Err != nil {
			log.Print(f.Name, ": ", f.Err)
		}
	}
	fmt.Println(r.Applied.Root)
	// Output: host userland
}

// A program may open one file of the embedder's, and only by this name.
func ExampleNotify() {
	handle := func(_ context.Context, c *sandbox.Syscall) sandbox.Answer {
		name, err := c.ReadString(c.Args[1], 4096)
		if err != nil || name != "/input" {
			return sandbox.Answer{Continue: true} // as if there was no Notify
		}
		r, w, err := os.Pipe()
		if err != nil {
			return sandbox.Answer{Errno: syscall.EIO}
		}
		fmt.Fprintln(w, "for you")
		w.Close()
		return sandbox.Answer{File: r}
	}
	sb := sandbox.New(sandbox.Options{Store: exampleStore(),
		Security: sandbox.Security{Notify: &sandbox.Notify{Calls: []string{"openat"}, Handle: handle}}})
	defer sb.Close()
	out, err := sb.Output(context.Background(), sandbox.Command("cat", "/input"))
	fmt.Printf("%s%v\n", out, err)
	// Output:
	// for you
	// <nil>
}

// Files in, a command, files out.
func ExampleSandbox_Root() {
	sb := sandbox.New(sandbox.Options{Store: exampleStore()})
	defer sb.Close()
	ctx := context.Background()
	root, err := sb.Root(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(root.WriteFile("/tmp/in.csv", []byte("b,2\na,1\n"), 0o644))
	_, err = sb.Output(ctx, sandbox.Command("sh", "-c", "mkdir /tmp/out && sort /tmp/in.csv >/tmp/out/sorted.csv"))
	fmt.Println(err)
	result, err := root.ReadFile("/tmp/out/sorted.csv")
	fmt.Print(string(result), err, "\n")
	// Output:
	// <nil>
	// <nil>
	// a,1
	// b,2
	// <nil>
}

// A build: sources of the host's, read-only; a place for its results; a secret that is in no file of the host's.
func ExampleOptions_mounts() {
	src, err := os.MkdirTemp("", "src-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(src)
	if err := os.WriteFile(src+"/greeting", []byte("hello"), 0o644); err != nil {
		log.Fatal(err)
	}
	sb := sandbox.New(sandbox.Options{Store: exampleStore(), Mounts: []rootfs.Mount{
		{Type: rootfs.Bind, Source: src, Target: "/src"},
		{Type: rootfs.Tmpfs, Target: "/out", Writable: true},
		{Type: rootfs.File, Target: "/run/secrets/name", Data: []byte("world"), Mode: 0o400},
	}})
	defer sb.Close()
	ctx := context.Background()
	const build = "echo $(cat /src/greeting), $(cat /run/secrets/name) >/out/result; touch /src/x 2>/dev/null || echo sources are safe"
	out, err := sb.Output(ctx, sandbox.Command("sh", "-c", build))
	fmt.Print(string(out), err, "\n")
	out, err = sb.Output(ctx, sandbox.Command("cat", "/out/result"))
	fmt.Print(string(out), err, "\n")
	// Output:
	// sources are safe
	// <nil>
	// hello, world
	// <nil>
}

// A session: commands beside one that runs.
func ExampleProcess_Run() {
	sb := sandbox.New(sandbox.Options{Store: exampleStore()})
	defer sb.Close()
	ctx := context.Background()
	server, err := sb.Start(ctx, &sandbox.Cmd{Args: []string{"sleep", "1000"}, Init: true})
	if err != nil {
		log.Fatal(err)
	}
	look := sandbox.Command("sh", "-c", "cat /proc/2/comm")
	look.Stdout = os.Stdout
	res, err := server.Run(ctx, look)
	fmt.Println(res.Err(), err)
	res, err = server.Stop(ctx, time.Second)
	fmt.Println(res.Signal, err)
	// Output:
	// sleep
	// <nil> <nil>
	// terminated <nil>
}

// A command at a terminal: what is typed and shown, and a window that changes its size.
func ExampleProcess_Resize() {
	sb := sandbox.New(sandbox.Options{Store: exampleStore()})
	defer sb.Close()
	ctx := context.Background()
	p, err := sb.Start(ctx, &sandbox.Cmd{
		Args:  []string{"sh", "-c", "stty -echo -opost; tty; read x; stty size"},
		TTY:   &sandbox.TTY{Rows: 24, Cols: 80},
		Pipes: sandbox.PipeStdin | sandbox.PipeStdout,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer p.Stdout.Close()
	shown := bufio.NewScanner(p.Stdout)
	shown.Scan()
	fmt.Println(shown.Text(), p.Resize(50, 132))
	fmt.Fprintln(p.Stdin)
	shown.Scan()
	fmt.Println(shown.Text())
	res, err := p.Wait(ctx)
	fmt.Println(res, err)
	// Output:
	// /dev/pts/0 <nil>
	// 50 132
	// exit status 0 <nil>
}

// What a command writes is kept, to be looked at later or, with Follow, as it comes.
func ExampleProcess_Logs() {
	sb := sandbox.New(sandbox.Options{Store: exampleStore()})
	defer sb.Close()
	ctx := context.Background()
	p, err := sb.Start(ctx, &sandbox.Cmd{
		Args: []string{"sh", "-c", "for i in 1 2 3; do echo line $i; done"},
		Log:  &sandbox.Log{MaxSize: 1 << 20, MaxFiles: 2},
	})
	if err != nil {
		log.Fatal(err)
	}
	for e, err := range p.Logs(ctx, sandbox.LogQuery{Follow: true}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s\n", e.Stream, e.Data)
	}
	for e := range p.Logs(ctx, sandbox.LogQuery{Tail: 1}) {
		fmt.Printf("last: %s\n", e.Data)
	}
	// Output:
	// stdout: line 1
	// stdout: line 2
	// stdout: line 3
	// last: line 3
}

// Steps of a session share what they leave behind, until a Reset.
func ExampleIdle() {
	ctx := context.Background()
	sb := sandbox.New(sandbox.Options{Store: exampleStore()})
	defer sb.Close()
	session, err := sb.Start(ctx, sandbox.Idle())
	if err != nil {
		fmt.Println(err)
		return
	}
	step := func(script string) {
		c := sandbox.Command("sh", "-c", script)
		c.Stdout = os.Stdout
		if _, err := session.Run(ctx, c); err != nil {
			fmt.Println(err)
		}
	}
	step("sleep 1000 </dev/null >/dev/null & echo $! >/tmp/job")
	step("kill $(cat /tmp/job) && echo it was still there")
	fmt.Println(sb.Reset(ctx))
	_, err = session.Wait(ctx)
	fmt.Println(errors.Is(err, sandbox.ErrReset))
	// Output:
	// it was still there
	// <nil>
	// true
}

// Each of a Pool's sandboxes is used once.
func ExamplePool() {
	ctx := context.Background()
	pool := sandbox.NewPool(sandbox.Options{Store: exampleStore(), Limits: sandbox.Limits{Wall: time.Minute}}, 4)
	defer pool.Close()
	for range 2 {
		sb, err := pool.Get(ctx)
		if err != nil {
			fmt.Println(err)
			return
		}
		out, err := sb.Output(ctx, sandbox.Command("sh", "-c", "ls /tmp | wc -l; touch /tmp/used"))
		fmt.Print(string(out))
		fmt.Println(err, sb.Close())
	}
	// Output:
	// 0
	// <nil> <nil>
	// 0
	// <nil> <nil>
}
