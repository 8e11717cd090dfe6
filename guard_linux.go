package sandbox

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A guard ends a command for what the kernel ends none for: its time, and the
// rest of a tree in which the kernel has killed a process for memory.
type guard struct {
	p      *process
	wall   *time.Timer // nil: none
	clock  *cpuClock   // nil: none
	memory *time.Timer // begins to watch; nil: nobody does
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// memoryDelay is how long a command runs before somebody watches for kills in
// it: most have ended by then, and a watch costs as much as a fifth of a start.
const memoryDelay = 2 * time.Millisecond

// guard begins to guard the command. stop must follow.
func (p *process) guard() *guard {
	g := &guard{p: p}
	if p.child == nil {
		return g
	}
	if l := p.limits.Wall; l > 0 {
		g.wall = time.AfterFunc(l-time.Since(p.began), func() { _ = p.kill(WallLimit, nil) }) // os.ErrProcessDone: it has ended
	}
	if l := p.limits.CPUTime; l > 0 {
		g.clock = newCPUClock(p, l)
	}
	if p.leaf != nil && p.cmd.Limits.Memory+p.sum.Memory > 0 {
		g.ctx, g.cancel = context.WithCancel(context.Background())
		g.work.Add(1)
		g.memory = time.AfterFunc(memoryDelay, func() {
			defer g.work.Done()
			g.watch()
		})
	}
	return g
}

// watch kills the tree when the kernel has killed one of its processes.
func (g *guard) watch() {
	for ev, err := range g.p.leaf.Watch(g.ctx) {
		if err != nil {
			return // the command has ended; or nothing can be watched here, and the end will tell
		}
		if ev.OOMKills.Value > 0 {
			_ = g.p.kill(MemoryLimit, nil) // os.ErrProcessDone: it has ended
			return
		}
	}
}

// stop returns when nobody looks at the command any more.
func (g *guard) stop() {
	if g.wall != nil {
		g.wall.Stop()
	}
	if g.clock != nil {
		g.clock.stop()
	}
	if g.memory != nil {
		g.cancel()
		if g.memory.Stop() {
			g.work.Done()
		}
		g.work.Wait()
	}
}

// A cpuClock kills a command whose tree has used more processor time than it may.
// It reads the counter no sooner than all processors together could have used up
// what was left, or, when little is left, so often that not more than half of
// maxOvershoot is missed.
type cpuClock struct {
	p     *process
	limit time.Duration
	width time.Duration // how many processors the tree may use at once

	mu      sync.Mutex // held while the counter is read
	timer   *time.Timer
	stopped bool
}

const maxOvershoot = 10 * time.Millisecond

func newCPUClock(p *process, limit time.Duration) *cpuClock {
	c := &cpuClock{p: p, limit: limit, width: time.Duration(width(p.limits.CPUSet))}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(c.pause(0), c.tick)
	return c
}

// pause is when to look again.
func (c *cpuClock) pause(used time.Duration) time.Duration {
	return max((c.limit-used)/c.width, maxOvershoot/2/c.width, minPause)
}

// minPause keeps a command that sleeps just below its limit from costing more
// than a hundredth of a processor.
const minPause = 500 * time.Microsecond

func (c *cpuClock) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return
	}
	used, err := c.p.leaf.CPU()
	switch {
	case err != nil: // Result has what can still be told
	case used > c.limit:
		_ = c.p.kill(CPULimit, nil) // os.ErrProcessDone: it has ended
	default:
		c.timer.Reset(c.pause(used))
	}
}

func (c *cpuClock) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	c.timer.Stop()
}

// width counts the processors of a list, of the machine's without one.
func width(list string) int {
	if list == "" {
		return machineWidth()
	}
	return max(1, countCPUs(list))
}

// machineWidth is how many processors are online, whatever this program is bound to.
var machineWidth = sync.OnceValue(func() int {
	b, err := os.ReadFile("/sys/devices/system/cpu/online")
	if n := countCPUs(strings.TrimSpace(string(b))); err == nil && n > 0 {
		return n
	}
	return runtime.NumCPU()
})

// countCPUs counts those of a list in the kernel's format, which is valid.
func countCPUs(list string) (n int) {
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		a, err := strconv.Atoi(first)
		if err != nil {
			continue
		}
		b := a
		if isRange {
			b, _ = strconv.Atoi(last)
		}
		n += max(0, b-a+1)
	}
	return n
}
