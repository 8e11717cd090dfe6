//go:build linux

package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/seed-5a9fb6e0/sandbox"
)

// env is what the subjects are made of.
type env struct {
	config *config
	dir    string // temporary: all that is made lies there
	store  *sandbox.Store

	host  []string   // the program's arguments where the host's files are seen
	argv  []string   // those in a sandbox and for os/exec
	files []*os.File // the descriptors from 3 on that these need
}

func newEnv(c *config) (_ *env, err error) {
	e := &env{config: c}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	if e.dir, err = os.MkdirTemp("", "sandbox-bench-"); err != nil {
		return nil, err
	}
	if err := os.Chmod(e.dir, 0o755); err != nil { // for the sandbox's root, who is an ordinary user outside
		return nil, err
	}
	if err := e.findProgram(); err != nil {
		return nil, err
	}
	if err := copyProgram(e.host[0], filepath.Join(e.rootfs(), e.host[0])); err != nil {
		return nil, err
	}
	dir := c.store
	if dir == "" {
		dir = filepath.Join(e.dir, "store")
	}
	e.store, err = sandbox.Open(dir)
	return e, err
}

func (e *env) close() error {
	var errs []error
	for _, f := range e.files {
		errs = append(errs, f.Close())
	}
	if e.store != nil {
		errs = append(errs, e.store.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(e.dir))...)
}

// findProgram takes the program of -program, or writes one, which is nowhere in
// a sandbox: that is executed by its descriptor, with os/exec too.
func (e *env) findProgram() error {
	path := e.config.program
	if path != "" {
		e.argv = []string{path, "true"}
		e.host = e.argv
		return nil
	}
	path = filepath.Join(e.dir, "exit")
	if err := writeProgram(path); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	e.host, e.argv, e.files = []string{path, "true"}, []string{"/proc/self/fd/3", "true"}, []*os.File{f}
	return nil
}

// rootfs is a root file system with only the program, at the same path as outside.
func (e *env) rootfs() string { return filepath.Join(e.dir, "rootfs") }

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// subjects are the ways to start the program that were asked for, os/exec first.
func (e *env) subjects() []subject {
	wanted := []subject{e.osExec()}
	for _, s := range append([]subject{e.inNamespaces()}, append(e.boxes(), e.peers()...)...) {
		if e.config.only.match(s.name()) {
			wanted = append(wanted, s)
		}
	}
	return wanted
}
