package sandbox

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/seed-5a9fb6e0/sandbox/internal/store"
)

// boxLogs are the logs of a sandbox's commands: a directory for each in one that is made for the first.
type boxLogs struct {
	mu   sync.Mutex
	dir  string // "": none yet
	live map[*commandLog]struct{}
	down chan struct{} // closed when all are about to be removed
}

// openLog makes the log of a command; nil if it has none.
func (b *box) openLog(l *Log) (*commandLog, error) {
	if l == nil {
		return nil, nil
	}
	b.logs.mu.Lock()
	defer b.logs.mu.Unlock()
	if err := b.makeLogs(); err != nil {
		return nil, err
	}
	var log *commandLog
	// A name of its own, also after another sandbox of this name: the log may be removed late.
	log, err := newLog(filepath.Join(b.logs.dir, store.NewName()), l.resolved(), b.logs.down, func() { b.logs.leave(log) })
	if err == nil {
		b.logs.live[log] = struct{}{}
	}
	return log, err
}

// makeLogs makes the directory: where the sandbox's upper layer is or would be, whose name Recover knows.
func (b *box) makeLogs() error {
	if b.logs.dir != "" {
		return nil
	}
	own := b.upper
	if own == "" {
		var err error
		if own, err = b.ownDir(); err != nil {
			return err
		}
	}
	dir := filepath.Join(own, "logs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return errors.Join(err, b.removeLogs(own))
	}
	b.logs.dir, b.logs.live, b.logs.down = dir, map[*commandLog]struct{}{}, make(chan struct{})
	return nil
}

func (l *boxLogs) leave(log *commandLog) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.live, log)
}

// closeLogs ends all logs, of commands too whose output is still being copied, and removes them.
func (b *box) closeLogs() error {
	b.logs.mu.Lock()
	live, dir := slices.Collect(maps.Keys(b.logs.live)), b.logs.dir
	b.logs.dir = ""
	b.logs.mu.Unlock()
	if dir == "" {
		return nil
	}
	close(b.logs.down)
	for _, log := range live {
		log.stop()
	}
	return b.removeLogs(filepath.Dir(dir))
}

// removeLogs removes the logs in the sandbox's own directory, and that if it was made for them.
func (b *box) removeLogs(own string) error {
	if b.upper != "" {
		own = filepath.Join(own, "logs") // removeUpper is for the rest
	}
	return os.RemoveAll(own)
}
