package sandbox

import (
	"errors"
	"reflect"
)

// Idle returns the Cmd of a session: a process tree that nothing runs in but a tiny PID 1, for Process.Start. What is started
// there, and what that leaves behind, lives until the session ends: by Kill, Stop (at once), Limits.Wall, the context of Run, or
// with the sandbox. Its Status is Killed then, WallLimit or Canceled.
//
// Of the Cmd only Limits.Wall may be set. A session itself has no limits: those of Options that are defaults hold for what is
// started in it.
func Idle() *Cmd { return &Cmd{idle: true} }

// idles says what is wrong with the Cmd of a session.
func (c *Cmd) idles() error {
	rest := *c
	rest.idle, rest.Limits.Wall = false, 0
	if c.idle && !reflect.ValueOf(rest).IsZero() {
		return &FieldError{"Cmd", nil, "an Idle with more than Limits.Wall: nothing runs in it that could have it"}
	}
	return nil
}

// validateFor returns all faults of c at once, as a command beside another one if that is so.
func (c *Cmd) validateFor(o *Options, sum Limits, beside bool) error {
	placed := c.placed(o.Mounts)
	if beside {
		placed = c.besides()
	}
	var clock error
	if c.idle && o.Clock != nil {
		clock = &FieldError{"Options.Clock", nil, "set: nothing can be started in a session then"}
	}
	return errors.Join(c.validate(), c.idles(), clock, c.fits(o.Env, sum), placed)
}

// besides says what a command beside another one can't have.
func (c *Cmd) besides() error {
	f := &faults{prefix: "Cmd."}
	f.check(c.idle, "Idle", nil, "beside another command: that is a session already")
	f.check(c.Init, "Init", c.Init, "beside another command there is a PID 1")
	f.check(len(c.Files) > 0, "Files", len(c.Files), "beside another command there is no tmpfs of its own")
	return errors.Join(f.errs...)
}
