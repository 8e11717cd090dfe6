//go:build linux

package main

import (
	"errors"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// A thread runs functions in a mount namespace of its own.
type thread struct {
	jobs  chan func() error
	errs  chan error
	ended chan struct{}
}

// withoutUnified makes a thread that does not see cgroup2 mounts where there
// are cgroups of version 1.
func withoutUnified() (*thread, error) {
	t := &thread{jobs: make(chan func() error), errs: make(chan error), ended: make(chan struct{})}
	go t.loop() // ends with stop
	if err := t.do(hideUnified); err != nil {
		t.stop()
		return nil, err
	}
	return t, nil
}

// do runs f on the thread, and so in the thread's namespace what f starts.
func (t *thread) do(f func() error) error {
	t.jobs <- f
	return <-t.errs
}

func (t *thread) stop() {
	close(t.jobs)
	<-t.ended
}

// loop never unlocks its thread, which so ends with it.
func (t *thread) loop() {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		// The main thread never ends: others would run in its namespace.
		go t.loop()
		<-t.ended
		runtime.UnlockOSThread()
		return
	}
	defer close(t.ended)
	for f := range t.jobs {
		t.errs <- f()
	}
}

func hideUnified() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	mounts, err := os.ReadFile("/proc/thread-self/mounts")
	if err != nil {
		return err
	}
	var unified []string
	first := false
	for line := range strings.Lines(string(mounts)) {
		switch f := strings.Fields(line); f[2] {
		case "cgroup":
			first = true
		case "cgroup2":
			unified = append(unified, f[1])
		}
	}
	if !first {
		return nil
	}
	var errs []error
	for _, path := range unified {
		errs = append(errs, os.NewSyscallError("umount", unix.Unmount(path, unix.MNT_DETACH)))
	}
	return errors.Join(errs...)
}
