//go:build linux

package vmtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/seed-5a9fb6e0/sandbox/internal/vmtest/plan"
)

// A guest is a machine that runs the programs of its plan and switches itself off.
type guest struct {
	qemu    []string // the program, and what makes it such a machine
	kernel  string
	options string // the kernel's, besides those that every guest has
	disk    string // an image that the guest sees as its plan's Disk; it writes to a copy. "": none
	plan    plan.Plan
	files   map[string]file // of the initramfs, besides init and the plan
}

// amd64 is a machine with two processors. TCG, not KVM: that is not to be had in most places where tests run, and hangs
// in others.
func amd64() []string {
	return []string{"qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048"}
}

// run boots the guest and returns what it wrote to its results, also after an error; console is what the kernel said,
// unless they are the same.
func (g *guest) run(ctx context.Context, dir string, init []byte) (results, console []byte, err error) {
	initrd, err := g.initramfs(dir, init)
	if err != nil {
		return nil, nil, err
	}
	log := filepath.Join(dir, "console")
	args := append(g.qemu[1:len(g.qemu):len(g.qemu)], "-nic", "none", "-display", "none", "-monitor", "none", "-no-reboot",
		"-kernel", g.kernel, "-initrd", initrd, "-append", "quiet panic=-1 "+g.options)
	if g.plan.Results != "" {
		args = append(args, "-serial", "file:"+log)
	}
	args = append(args, "-serial", "stdio")
	if g.disk != "" {
		args = append(args, "-drive", "file="+g.disk+",format=raw,if=virtio,snapshot=on,cache=unsafe")
	}
	qemu := exec.CommandContext(ctx, g.qemu[0], args...)
	qemu.Env = append(os.Environ(), "TMPDIR="+dir) // for the copy of the disk
	// A file, to be looked into while the guest runs.
	out, err := os.Create(filepath.Join(dir, "results"))
	if err != nil {
		return nil, nil, err
	}
	defer out.Close()
	var stderr bytes.Buffer
	qemu.Stdout, qemu.Stderr = out, &stderr
	qemu.WaitDelay = 5 * time.Second
	// A test binary that panics, as at its time-out, takes its guest with it. The signal is bound to the thread (prctl(2)).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = qemu.Run()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	console, _ = os.ReadFile(log)
	results, rerr := os.ReadFile(out.Name())
	results = bytes.ReplaceAll(results, []byte("\r\n"), []byte("\n")) // as a console writes lines
	err = errors.Join(err, rerr)
	if err != nil {
		return results, console, fmt.Errorf("%s: %w %s", g.qemu[0], err, &stderr)
	}
	return results, console, nil
}

// initramfs writes the file of which the kernel makes its first root.
func (g *guest) initramfs(dir string, init []byte) (string, error) {
	text, err := json.Marshal(g.plan)
	if err != nil {
		return "", err
	}
	files := map[string]file{"init": {mode: 0o755, data: init}, plan.File[1:]: {mode: 0o644, data: text}, "dev": {mode: fs.ModeDir | 0o755}}
	for name, f := range g.files {
		files[name] = f
	}
	var out bytes.Buffer
	if err := writeInitramfs(&out, files); err != nil {
		return "", err
	}
	name := filepath.Join(dir, "initramfs")
	return name, os.WriteFile(name, out.Bytes(), 0o644)
}

// addModules puts modules into the guest's initramfs and its plan.
func (g *guest) addModules(ms []module) {
	if g.files == nil {
		g.files = map[string]file{}
	}
	for _, m := range ms {
		name := "modules/" + m.name + ".ko"
		g.files[name] = file{mode: 0o644, data: m.data}
		g.plan.Modules = append(g.plan.Modules, "/"+name)
	}
}
