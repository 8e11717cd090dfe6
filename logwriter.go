package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// A commandLog is what is kept of what one command writes. Files have numbers and are never renamed, so that a reader knows where
// he is.
type commandLog struct {
	Log
	dir  string
	down <-chan struct{} // closed when the sandbox is closed or reset
	left func()          // called when nothing is written any more

	mu      sync.Mutex
	files   []*logFile // the oldest first; the last one is written to
	file    *os.File   // that one; nil: nothing is written any more
	entries int64      // that were ever written
	last    time.Time
	streams [2]logStream
	pending []byte // entries that are still to be written, of a known number
	pended  int64
	ended   bool
	err     error         // of the write that failed
	news    chan struct{} // closed when there is something new; nil: nobody waits
}

// A logFile is as much of a file as readers may see: no entry that is being written.
type logFile struct {
	number int
	first  int64 // how many entries were written before it
	size   int64
}

// A logStream is one of the two of a command.
type logStream struct {
	name Stream
	rest []byte // of a line that has not ended yet, at most maxPiece
}

// newLog makes the log of a command in a directory, which must not be there.
func newLog(dir string, l Log, down <-chan struct{}, left func()) (*commandLog, error) {
	c := &commandLog{Log: l, dir: dir, down: down, left: left}
	c.streams[0].name, c.streams[1].name = Stdout, Stderr
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	if err := c.rotate(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return c, nil
}

func (c *commandLog) path(f *logFile) string {
	return filepath.Join(c.dir, strconv.Itoa(f.number))
}

// rotate begins a new file. The oldest goes first: there are never too many.
func (c *commandLog) rotate() error {
	next := &logFile{number: 1, first: c.entries}
	if n := len(c.files); n > 0 {
		next.number = c.files[n-1].number + 1
	}
	var errs []error
	if c.file != nil {
		errs = append(errs, c.file.Close())
	}
	if len(c.files) >= c.MaxFiles {
		if err := os.Remove(c.path(c.files[0])); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		c.files = c.files[1:]
	}
	var err error
	c.file, err = os.OpenFile(c.path(next), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err == nil {
		c.files = append(c.files, next)
	}
	return errors.Join(append(errs, err)...)
}

// write logs what was read from one of the streams.
func (c *commandLog) write(s *logStream, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	for len(b) > 0 && c.file != nil {
		room := maxPiece - len(s.rest)
		end := bytes.IndexByte(b[:min(len(b), room+1)], '\n')
		switch {
		case end >= 0:
			c.add(now, s, b[:end], false)
			b = b[end+1:]
		case len(b) > room:
			c.add(now, s, b[:room], true)
			b = b[room:]
		default:
			s.rest = append(s.rest, b...)
			b = nil
		}
	}
	c.flush()
}

// tee returns a Writer that logs a stream and passes it on, and what is to be called at the stream's end. The log comes first:
// it has what a Writer refuses.
func (c *commandLog) tee(stream Stream, w io.Writer) (tee io.Writer, end func()) {
	s := &c.streams[0]
	if stream == Stderr {
		s = &c.streams[1]
	}
	return writerFunc(func(b []byte) (int, error) {
		c.write(s, b)
		return w.Write(b)
	}), func() { c.endStream(s) }
}

// now is the time of an entry: never before that of the last one, whatever is done to the clock.
func (c *commandLog) now() time.Time {
	if now := time.Now().Round(0); now.After(c.last) {
		c.last = now
	}
	return c.last
}

// add has an entry written by the next flush.
func (c *commandLog) add(at time.Time, s *logStream, data []byte, partial bool) {
	size := int64(len(c.pending) + maxEntry - maxPiece + len(s.rest) + len(data))
	if c.file != nil && c.files[len(c.files)-1].size+size > c.MaxSize {
		c.flush()
		if c.file != nil {
			c.fail(c.rotate())
		}
	}
	if c.file == nil {
		return
	}
	c.pending = appendEntry(c.pending, at, s.name, partial, s.rest, data)
	c.pended++
	s.rest = s.rest[:0]
}

// flush writes what is pending.
func (c *commandLog) flush() {
	if c.file != nil && c.pended > 0 {
		f := c.files[len(c.files)-1]
		n, err := c.file.Write(c.pending)
		if err == nil {
			f.size += int64(n)
			c.entries += c.pended
		} else {
			_ = c.file.Truncate(f.size) // half an entry is of no use; readers don't see it
		}
		c.fail(err)
		c.tell()
	}
	c.pending, c.pended = c.pending[:0], 0
}

// fail ends the log for an error: one that goes on after a hole would hide it.
func (c *commandLog) fail(err error) {
	if err != nil {
		c.err = fmt.Errorf("Cmd.Log: %w", err)
		c.closeFile()
	}
}

func (c *commandLog) closeFile() {
	if c.file != nil {
		c.file.Close()
		c.file = nil
	}
	c.pending, c.streams[0].rest, c.streams[1].rest = nil, nil, nil
	c.tell()
}

// tell wakes those that wait for something new.
func (c *commandLog) tell() {
	if c.news != nil {
		close(c.news)
		c.news = nil
	}
}

// endStream logs what is left of a stream that has ended.
func (c *commandLog) endStream(s *logStream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLine(s)
}

func (c *commandLog) endLine(s *logStream) {
	if c.file != nil && len(s.rest) > 0 {
		c.add(c.now(), s, nil, true)
		c.flush()
	}
}

// end ends the log with its command, and returns what went wrong with it. Without a log it does nothing.
func (c *commandLog) end() error {
	if c == nil {
		return nil
	}
	defer c.left() // when no file is made any more
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.streams { // of a stream whose copying did not end
		c.endLine(&c.streams[i])
	}
	c.ended = true
	c.closeFile()
	return c.err
}

// stop ends the log with its sandbox.
func (c *commandLog) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeFile()
}

// remove removes the log of a command that nobody can ask any more.
func (c *commandLog) remove() { _ = os.RemoveAll(c.dir) } // what is left goes with the sandbox
