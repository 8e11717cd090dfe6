package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"time"

	"golang.org/x/sys/unix"
)

// Watch yields the events of g at once, and again each time that the kernel tells of new ones: kills by the OOM killer, on
// v2 also touches of the memory limit and refused forks; what comes close together may come as one. It ends with an
// error: the cause of ctx's end, os.ErrClosed after Remove, Release or Close, errors.ErrUnsupported when g was made
// without the memory controller and, on v2, that of pids. While it waits it takes a few descriptors, and no thread or
// goroutine but the caller's.
func (g *Group) Watch(ctx context.Context) iter.Seq2[Events, error] {
	return func(yield func(Events, error) bool) {
		w := watch{g: g, yield: yield}
		if err := w.run(ctx); err != nil {
			yield(Events{}, err)
		}
	}
}

// watch is one run of the iterator.
type watch struct {
	g     *Group
	yield func(Events, error) bool
	now   Events // as read
	last  Events // as yielded
	begun bool
	ended bool // by the caller
}

func (w *watch) run(ctx context.Context) error {
	wait, err := w.g.newWaiter(ctx, "watch")
	if err != nil {
		return err
	}
	defer wait.close()
	if err := w.g.notices(wait); err != nil {
		return err
	}
	for !w.ended {
		begun, kills := w.begun, w.last.OOMKills
		err := wait.until(func(notice bool) (bool, error) {
			err := w.read()
			return notice || w.fresh(), err
		})
		if err != nil {
			return err
		}
		w.emit()
		if begun && kills == w.last.OOMKills {
			err = w.late(wait.ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *watch) read() (err error) {
	w.now, err = w.g.Events()
	return err
}

func (w *watch) fresh() bool {
	return !w.begun || w.now.OOMKills != w.last.OOMKills || w.now.MemoryHits != w.last.MemoryHits || w.now.PIDsHits != w.last.PIDsHits
}

// emit yields what is new.
func (w *watch) emit() {
	if w.fresh() {
		w.begun, w.last = true, w.now
		w.ended = !w.yield(w.now, nil)
	}
}

// late looks for a kill: v1's notice comes before the kernel has chosen whom (mem_cgroup_oom in mm/memcontrol.c), and
// comes also for one in another group.
func (w *watch) late(ctx context.Context) error {
	h := w.g.in(Memory)
	if h == nil || h.v2 {
		return nil
	}
	kills := w.last.OOMKills
	end := time.Now().Add(time.Second)
	for pause := (backoff{}); !w.ended && w.last.OOMKills == kills && time.Now().Before(end); w.emit() {
		err := pause.wait(ctx)
		if err == nil {
			err = w.read()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// notices has w wait for what tells of g's events. Of refused forks v1 (Linux 6.18) tells nobody.
func (g *Group) notices(w *waiter) error {
	memory, pids := g.in(Memory), g.in(PIDs)
	if pids != nil && !pids.v2 {
		pids = nil
	}
	if memory == nil && pids == nil {
		return g.has(Memory)
	}
	if pids != nil {
		if err := w.addLocal(pids, g.dir(pids)+"/pids.events"); err != nil {
			return denied(pids, err)
		}
	}
	switch {
	case memory == nil:
		return nil
	case memory.v2:
		return denied(memory, w.addLocal(memory, g.dir(memory)+"/memory.events"))
	}
	return denied(memory, w.addOOM(memory, g.dir(memory)))
}

// addLocal prefers the file with the group's own events, as Events does.
func (w *waiter) addLocal(h *hierarchy, path string) error {
	err := w.add(h, path+".local")
	if errors.Is(err, fs.ErrNotExist) {
		err = w.add(h, path)
	}
	return err
}

// addOOM asks v1 for a notice by eventfd (Documentation/admin-guide/cgroup-v1/memory.rst, 10). The kernel's registration
// ends with the descriptor.
func (w *waiter) addOOM(h *hierarchy, dir string) error {
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return err
	}
	if err := w.addFD(event, unix.EPOLLIN); err != nil {
		return err
	}
	control, err := h.openFile(dir+"/memory.oom_control", unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(control)
	return h.write(dir+"/cgroup.event_control", fmt.Sprintf("%d %d", event, control))
}
