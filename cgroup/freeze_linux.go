package cgroup

import (
	"context"
	"strings"
)

// Freeze stops all processes in g and below it, new ones included, and returns when they have stopped. With the end of ctx
// before that they go on, and the cause of it is returned. A stopped process holds what it holds; Kill ends it all the
// same. Errors: errors.ErrUnsupported when g was made without the Freezer or Unified controller, os.ErrClosed.
func (g *Group) Freeze(ctx context.Context) error {
	h, err := g.freezer("freeze")
	if err != nil {
		return err
	}
	if h.v2 {
		err = g.freezeV2(ctx, h)
	} else {
		err = g.freezeV1(ctx, h)
	}
	if err != nil {
		_ = h.write(g.thawing(h))
	}
	return denied(h, err)
}

// Thaw lets them go on, unless a group above is frozen. Errors: those of Freeze.
func (g *Group) Thaw(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	h, err := g.freezer("thaw")
	if err != nil {
		return err
	}
	return denied(h, h.write(g.thawing(h)))
}

// freezer prefers v2, which lets the frozen be killed and tells when all have stopped.
func (g *Group) freezer(op string) (*hierarchy, error) {
	if err := g.alive(op); err != nil {
		return nil, err
	}
	if h := g.in(Unified); h != nil {
		return h, nil
	}
	return g.in(Freezer), g.has(Freezer)
}

func (g *Group) thawing(h *hierarchy) (path, value string) {
	if h.v2 {
		return g.dir(h) + "/cgroup.freeze", "0"
	}
	return g.dir(h) + "/freezer.state", "THAWED"
}

func (g *Group) freezeV2(ctx context.Context, h *hierarchy) error {
	w, err := g.newWaiter(ctx, "freeze")
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.add(h, g.dir(h)+"/cgroup.events"); err != nil {
		return err
	}
	if err := h.write(g.dir(h)+"/cgroup.freeze", "1"); err != nil {
		return err
	}
	return w.until(func(bool) (bool, error) {
		text, err := h.read(g.dir(h) + "/cgroup.events")
		n, _ := parseKey(text, "frozen")
		return n == 1, err
	})
}

// freezeV1 asks again and again: the kernel tells nobody, and looks for those who have stopped since only when it is
// asked for the state (Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst).
func (g *Group) freezeV1(ctx context.Context, h *hierarchy) error {
	file := g.dir(h) + "/freezer.state"
	for pause := (backoff{}); ; {
		if err := h.write(file, "FROZEN"); err != nil {
			return err
		}
		state, err := h.read(file)
		if err != nil || strings.TrimSpace(state) == "FROZEN" {
			return err
		}
		if err := pause.wait(ctx); err != nil {
			return err
		}
	}
}
