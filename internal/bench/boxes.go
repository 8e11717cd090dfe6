//go:build linux

package main

import (
	"context"

	"github.com/seed-5a9fb6e0/sandbox"
)

// warm is a Run in a Sandbox that is there.
type warm struct {
	title string
	opts  sandbox.Options
	cmd   sandbox.Cmd
	box   *sandbox.Sandbox
}

func (w *warm) name() string { return w.title }

// setup runs the command once: limits that can't be had show themselves there.
func (w *warm) setup(ctx context.Context) error {
	w.box = sandbox.New(w.opts)
	return w.once(ctx)
}

func (w *warm) once(ctx context.Context) error {
	res, err := w.box.Run(ctx, &w.cmd)
	return verdict(res, err)
}

func (w *warm) teardown() error { return w.box.Close() }

// cold is New, Run and Close.
type cold struct {
	title string
	opts  sandbox.Options
	cmd   sandbox.Cmd
}

func (c *cold) name() string                    { return c.title }
func (c *cold) setup(ctx context.Context) error { return c.once(ctx) }
func (c *cold) teardown() error                 { return nil }

func (c *cold) once(ctx context.Context) error {
	res, err := sandbox.Run(ctx, c.opts, &c.cmd)
	return verdict(res, err)
}

func verdict(res *sandbox.Result, err error) error {
	if err != nil {
		return err
	}
	return res.Err()
}

func (e *env) warm() subject {
	return &warm{title: "warm Run", opts: sandbox.Options{Store: e.store}, cmd: e.cmd(sandbox.Limits{})}
}

func (e *env) cmd(l sandbox.Limits) sandbox.Cmd {
	return sandbox.Cmd{Args: e.argv, ExtraFiles: e.files, Limits: l}
}

func (e *env) boxes() []subject {
	plain := e.cmd(sandbox.Limits{})
	behind := plain
	behind.Init = true
	limited := e.cmd(sandbox.Limits{Memory: 64 << 20, PIDs: 64, CPUs: 0.5})
	judged := limited
	judged.Init = true
	host := sandbox.Options{Store: e.store}
	overlay := sandbox.Options{Store: e.store, Rootfs: e.rootfs()}
	return []subject{
		e.warm(),
		&warm{title: "warm Run, no seccomp", opts: sandbox.Options{Store: e.store, Security: sandbox.Security{Seccomp: "off"}}, cmd: plain},
		&warm{title: "warm Run, init", opts: host, cmd: behind},
		&warm{title: "warm Run, memory, pids, cpu limits", opts: host, cmd: limited},
		&warm{title: "warm Run, memory, pids, cpu limits, init", opts: host, cmd: judged},
		&warm{title: "warm Run, overlay", opts: overlay, cmd: plain},
		&cold{title: "cold New+Run+Close", opts: host, cmd: plain},
		&cold{title: "cold New+Run+Close, memory, pids, cpu limits", opts: host, cmd: limited},
		&cold{title: "cold New+Run+Close, overlay", opts: overlay, cmd: plain},
	}
}
