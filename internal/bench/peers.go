//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// peers are other programs that make sandboxes, where they are installed.
func (e *env) peers() []subject {
	bwrap := append([]string{"bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"}, e.host...)
	return []subject{
		&peer{command: command{title: "bwrap --unshare-all", argv: bwrap}},
		e.oci("crun, no cgroup", "crun", "--cgroup-manager=disabled"),
		e.oci("crun", "crun"),
		e.oci("runc", "runc"),
	}
}

// peer is a command that may be missing.
type peer struct{ command }

func (p *peer) setup(ctx context.Context) error {
	if err := p.find(); err != nil {
		return err
	}
	return p.once(ctx)
}

func (p *peer) find() error {
	path, err := exec.LookPath(p.argv[0])
	if err != nil {
		return fmt.Errorf("%s: not installed: %w", p.argv[0], errors.ErrUnsupported)
	}
	p.argv[0] = path
	return nil
}

// ociRuntime is an OCI runtime with a bundle of its own.
type ociRuntime struct {
	peer
	dir, root string
	flags     []string
	args      []string
	thread    *thread
	runs      int
}

func (e *env) oci(title, name string, flags ...string) subject {
	return &ociRuntime{peer: peer{command{title: title, argv: []string{name}}}, flags: flags,
		dir: filepath.Join(e.dir, "bundle "+title), root: e.rootfs(), args: e.host}
}

// setup makes a bundle of the runtime's own default specification.
func (o *ociRuntime) setup(ctx context.Context) (err error) {
	if err := o.find(); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s: not measured as an ordinary user: %w", o.argv[0], errors.ErrUnsupported)
	}
	if err := os.Mkdir(o.dir, 0o700); err != nil {
		return err
	}
	spec := exec.CommandContext(ctx, o.argv[0], "spec")
	spec.Dir = o.dir
	if out, err := spec.CombinedOutput(); err != nil {
		return fmt.Errorf("spec: %w: %q", err, out)
	}
	if err := o.edit(filepath.Join(o.dir, "config.json")); err != nil {
		return err
	}
	// crun refuses a machine that has cgroups of version 1 and 2: hide the latter.
	if o.thread, err = withoutUnified(); err != nil {
		return err
	}
	return o.once(ctx)
}

func (o *ociRuntime) edit(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal(text, &spec); err != nil {
		return err
	}
	process, ok := spec["process"].(map[string]any)
	if !ok {
		return fmt.Errorf("%q: has no process", path)
	}
	process["terminal"], process["args"] = false, o.args
	spec["root"] = map[string]any{"path": o.root, "readonly": true}
	if text, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

func (o *ociRuntime) once(ctx context.Context) error {
	o.runs++
	id := fmt.Sprintf("sandbox-bench-%d-%d", os.Getpid(), o.runs)
	args := append([]string{"--root", filepath.Join(o.dir, "state")}, o.flags...)
	cmd := exec.CommandContext(ctx, o.argv[0], append(args, "run", "--bundle", o.dir, id)...)
	var out []byte
	err := o.thread.do(func() (err error) {
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		return fmt.Errorf("%s run %s: %w: %q", o.argv[0], strconv.Quote(id), err, out)
	}
	return nil
}

func (o *ociRuntime) teardown() error {
	if o.thread != nil {
		o.thread.stop()
	}
	return nil
}
