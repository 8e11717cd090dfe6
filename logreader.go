package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os"
)

// A logReader is one who reads a log. He has no lock but to look what there is, and so keeps nobody waiting.
type logReader struct {
	log    *commandLog
	follow bool
	end    int64 // how many entries there are for him, without follow

	at    *logFile // nil: none yet
	file  *os.File // that one; it can be read when it was removed, too
	off   int64
	index int64 // of the next entry
	skip  int64 // what comes before this index isn't wanted
	lost  int64
	buf   []byte
	rest  []byte // of buf: what was read and not yielded
}

// read yields entries until there are no more.
func (c *commandLog) read(ctx context.Context, q LogQuery, yield func(LogEntry) bool) error {
	r := &logReader{log: c, follow: q.Follow}
	r.begin(q.Tail)
	defer r.close()
	for {
		e, err := r.next(ctx)
		switch {
		case err == io.EOF && r.lost > 0:
			return fmt.Errorf("the last %d entries were removed before they were read", r.lost)
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case e.Time.Before(q.Since):
			continue
		}
		e.Lost, r.lost = r.lost, 0
		e.Data = bytes.Clone(e.Data)
		if !yield(e) {
			return nil
		}
	}
}

// begin notes what there is, and where the last of it begins.
func (r *logReader) begin(tail int) {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	r.end = r.log.entries
	if r.follow {
		r.end = math.MaxInt64
	}
	if len(r.log.files) > 0 {
		r.index = r.log.files[0].first
	}
	if tail > 0 {
		r.skip = r.log.entries - int64(tail)
		for _, f := range r.log.files {
			if f.first <= r.skip {
				r.index = f.first
			}
		}
	}
}

func (r *logReader) close() {
	if r.file != nil {
		r.file.Close()
	}
}

// next returns the next entry that is wanted; its Data is there until the next call.
func (r *logReader) next(ctx context.Context) (LogEntry, error) {
	for {
		if ctx.Err() != nil {
			return LogEntry{}, context.Cause(ctx)
		}
		if r.index >= r.end {
			return LogEntry{}, r.log.over()
		}
		e, n, err := cutEntry(r.rest)
		if err != nil {
			return LogEntry{}, fmt.Errorf("%s: %w", r.log.path(r.at), err)
		}
		if n == 0 {
			if err := r.more(ctx); err != nil {
				return LogEntry{}, err
			}
			continue
		}
		r.rest = r.rest[n:]
		if r.index++; r.index > r.skip {
			return e, nil
		}
	}
}

// over is why a log has no more entries: io.EOF if that is well.
func (c *commandLog) over() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed():
		return os.ErrClosed
	case c.err != nil:
		return c.err
	}
	return io.EOF
}

// closed says whether the sandbox is, or is about to be.
func (c *commandLog) closed() bool {
	select {
	case <-c.down:
		return true
	default:
		return false
	}
}

// more reads on, in the next file when this one has no more, or waits until there is something.
func (r *logReader) more(ctx context.Context) error {
	size, news, err := r.look()
	switch {
	case err != nil && r.log.closed(): // whatever it says of files that are being removed
		return os.ErrClosed
	case err != nil:
		return err
	case news != nil:
		select {
		case <-news:
		case <-ctx.Done():
		}
		return nil
	}
	return r.fill(size)
}

// look returns how much of the file there is now or, if there is no more, what says that there is something new. It is where
// a file is opened: as long as the log is locked none is removed.
func (r *logReader) look() (size int64, news <-chan struct{}, err error) {
	c := r.log
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed() {
		return 0, nil, os.ErrClosed
	}
	if r.at == nil || r.off == r.at.size {
		if err := r.nextFile(); err != nil {
			return 0, nil, err
		}
	}
	switch {
	case r.off < r.at.size:
		return r.at.size, nil, nil
	case c.err != nil:
		return 0, nil, c.err
	case c.ended:
		return 0, nil, io.EOF
	}
	if c.news == nil {
		c.news = make(chan struct{})
	}
	return 0, c.news, nil
}

// nextFile goes on with the first file that has what comes next or is newer, if there is one with something.
func (r *logReader) nextFile() error {
	for _, f := range r.log.files {
		if r.at != nil && f.number <= r.at.number || f.first < r.index {
			continue
		}
		file, err := os.Open(r.log.path(f))
		if err != nil {
			return err
		}
		r.close()
		r.lost += max(0, min(f.first, r.end)-max(r.index, r.skip)) // of those that are wanted
		r.at, r.file, r.off, r.index, r.rest = f, file, 0, f.first, nil
		if f.size > 0 {
			return nil
		}
	}
	if r.at == nil { // it has none: the only one was removed, and no other could be made
		return r.log.err
	}
	return nil
}

const logChunk = 64 << 10

// fill reads what follows the rest.
func (r *logReader) fill(size int64) error {
	if r.buf == nil {
		r.buf = make([]byte, logChunk+maxEntry)
	}
	n := copy(r.buf, r.rest)
	m := int(min(size-r.off, logChunk))
	m, err := r.file.ReadAt(r.buf[n:n+m], r.off)
	r.off += int64(m)
	r.rest = r.buf[:n+m]
	if m > 0 {
		err = nil // the next one says it again
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // somebody else cut it
	}
	return err
}
