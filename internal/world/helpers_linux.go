package world

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// HaveMapHelpers says whether newuidmap(1) and newgidmap(1) are installed.
func HaveMapHelpers() bool {
	_, uerr := exec.LookPath("newuidmap")
	_, gerr := exec.LookPath("newgidmap")
	return uerr == nil && gerr == nil
}

// mapByHelpers has the maps written by the setuid helpers, which demand that
// the child is alive: it tells its pid over a pipe and waits for a byte on
// another.
func mapByHelpers(ctx context.Context, m IDMap, end func(*spawn.Program)) ([]int, error) {
	ready, go1, err := twoPipes()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	go func() { // ends with the pipe's end, which this function holds
		defer close(done)
		if err := runMapHelpers(ctx, ready.r, m); err != nil {
			cancel(err)
		}
		go1.w.Close()
	}()
	fds, _, err := spawn.Run(ctx, func(p *spawn.Program) {
		out, in := p.Input(int(ready.w.Fd())), p.Input(int(go1.r.Fd()))
		unshareUser(p)
		pid := p.Store(p.Do("getpid", "", unix.SYS_GETPID))
		p.Do("write", "pid", unix.SYS_WRITE, out, pid, 4)
		p.Try("read", "go", unix.SYS_READ, in, p.Words(0), 1)
		end(p)
	})
	ready.w.Close()
	<-done
	ready.r.Close()
	go1.r.Close()
	if cause := context.Cause(ctx); cause != nil {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return nil, cause
	}
	return fds, err
}

type pipe struct{ r, w *os.File }

func twoPipes() (a, b pipe, err error) {
	if a.r, a.w, err = os.Pipe(); err != nil {
		return a, b, err
	}
	if b.r, b.w, err = os.Pipe(); err != nil {
		a.r.Close()
		a.w.Close()
	}
	return a, b, err
}

func runMapHelpers(ctx context.Context, ready *os.File, m IDMap) error {
	var b [4]byte
	if _, err := ready.Read(b[:]); err != nil {
		return nil // the program failed before, and says so itself
	}
	pid := binary.NativeEndian.Uint32(b[:])
	for _, h := range []struct {
		name   string
		ranges []Range
	}{{"newuidmap", m.UIDs}, {"newgidmap", m.GIDs}} {
		args := append([]string{fmt.Sprint(pid)}, strings.Fields(MapText(h.ranges))...)
		cmd := exec.CommandContext(ctx, h.name, args...)
		cmd.WaitDelay = time.Second
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s %s: %w: %s", h.name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}
