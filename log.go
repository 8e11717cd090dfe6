package sandbox

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"time"
)

// A Log says how much is kept of what a command writes, for Process.Logs. It is in files of the store that no command can reach:
// at most MaxFiles of MaxSize each, the oldest is removed for a new one. They are there until the sandbox is closed or reset, or
// nobody has the Process any more; what a program left that died is removed by the next Open of the store.
//
// The files have the format that Kubernetes' CRI has for logs: a line "2016-10-06T00:17:09.669794202Z stdout F content" for
// each line that the command wrote, of any bytes. One longer than 16 KiB is in pieces of that size, with P in place of F but for the
// last; so is the end of a stream that is not the end of a line. They are not synced (fsync(2)).
type Log struct {
	// MaxSize in bytes is how large a file gets, at least 64 KiB. 0: 10 MiB.
	MaxSize int64
	// MaxFiles is how many files there are at most. 0: 3.
	MaxFiles int
}

const (
	minLogSize     = 64 << 10 // some entries, for an entry is never in two files
	defaultLogSize = 10 << 20
	defaultLogs    = 3
)

// resolved is l with its defaults.
func (l *Log) resolved() Log {
	r := *l
	if r.MaxSize == 0 {
		r.MaxSize = defaultLogSize
	}
	if r.MaxFiles == 0 {
		r.MaxFiles = defaultLogs
	}
	return r
}

// log checks Cmd.Log.
func (f *faults) log(c *Cmd) {
	l := c.Log
	if l == nil {
		return
	}
	f.check(l.MaxSize < 0 || l.MaxSize > 0 && l.MaxSize < minLogSize, "Log.MaxSize", l.MaxSize, "less than 64 KiB")
	f.check(l.MaxFiles < 0, "Log.MaxFiles", l.MaxFiles, "negative")
	f.check(c.Pipes&(PipeStdout|PipeStderr) != 0, "Log", nil, "set beside PipeStdout or PipeStderr: what the Process has the end of nobody else reads")
}

// Stream names an output of a command.
type Stream string

// The streams of a LogEntry.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

// A LogEntry is a line that a command wrote, or a part of one.
type LogEntry struct {
	// Time is when it was read from the command, in UTC; it is never before that of an entry before.
	Time time.Time
	// Stream is where it was written to. All is Stdout of a terminal, and where Cmd.Stdout and Cmd.Stderr are the same Writer.
	Stream Stream
	// Data is what was written, without the newline at its end. It is the caller's.
	Data []byte
	// Partial says that no newline followed: the next entry of the Stream goes on with the line, or it was the last.
	Partial bool
	// Lost is how many entries there were between this one and the one before that were removed before they were read.
	Lost int64
}

// A LogQuery says what Process.Logs yields. The zero value is all that is there.
type LogQuery struct {
	// Since leaves out what is older. Zero: nothing.
	Since time.Time
	// Tail is how many of the entries that are there are yielded, the last ones. 0: all.
	Tail int
	// Follow goes on with what is still to come, until the command has ended and all of it was yielded.
	Follow bool
}

// Logs yields what the command wrote, in the order in which it was read, while the command runs and after its end. The
// Cmd must have a Log. Any number may be read at the same time; whoever reads slowly keeps neither the command nor others
// waiting, but misses what rotation has removed (LogEntry.Lost). A line is there once it is complete, is longer than 16 KiB, or its
// stream has ended.
//
// An error is yielded once, at the end: a *FieldError without Cmd.Log or for a negative Tail; the cause of ctx, if that ends
// first; os.ErrClosed when the sandbox was closed or reset; that of the read, or one that says that the last entries
// were removed before they were read; or, after the last entry, that of the write which ended the log, which Wait returns, too.
func (p *Process) Logs(ctx context.Context, q LogQuery) iter.Seq2[LogEntry, error] {
	return func(yield func(LogEntry, error) bool) {
		defer runtime.KeepAlive(p)
		f, log := &faults{}, p.p.log()
		f.check(log == nil, "Cmd.Log", nil, "nil, or the command is not started yet: nothing is kept")
		f.check(q.Tail < 0, "LogQuery.Tail", q.Tail, "negative")
		err := errors.Join(f.errs...)
		if err == nil {
			err = log.read(ctx, q, func(e LogEntry) bool { return yield(e, nil) })
		}
		if err != nil {
			yield(LogEntry{}, p.sandbox.wrap("logs", err))
		}
	}
}
