package sandbox

import (
	"bytes"
	"fmt"
	"time"
)

// The log format of Kubernetes' container runtime interface (kubernetes/design-proposals-archive, node/kubelet-cri-logging.md):
// time, stream, tag and content, with a space between two.
const (
	logTime  = "2006-01-02T15:04:05.000000000Z" // RFC 3339 in UTC, of one length
	maxPiece = 16 << 10                         // of content
	maxEntry = len(logTime) + len(" stdout P ") + maxPiece + len("\n")
)

// appendEntry appends an entry whose content is in two parts.
func appendEntry(b []byte, at time.Time, stream Stream, partial bool, data ...[]byte) []byte {
	b = at.UTC().AppendFormat(b, logTime)
	b = append(b, ' ')
	b = append(b, stream...)
	if partial {
		b = append(b, " P "...)
	} else {
		b = append(b, " F "...)
	}
	for _, d := range data {
		b = append(b, d...)
	}
	return append(b, '\n')
}

// cutEntry parses the first entry of b and returns how long it is, newline included. 0: b has no whole one, for it was cut
// where a file or a crash ended it. Data is a part of b.
func cutEntry(b []byte) (e LogEntry, n int, err error) {
	end := bytes.IndexByte(b[:min(len(b), maxEntry)], '\n')
	if end < 0 {
		if len(b) >= maxEntry {
			err = fmt.Errorf("an entry of more than %d bytes", maxEntry)
		}
		return LogEntry{}, 0, err
	}
	fields := bytes.SplitN(b[:end], []byte(" "), 4)
	if len(fields) < 4 {
		return LogEntry{}, 0, notAnEntry(b[:end])
	}
	at, err := time.Parse(logTime, string(fields[0]))
	e = LogEntry{Time: at, Stream: Stream(fields[1]), Data: fields[3], Partial: string(fields[2]) == "P"}
	if err != nil || e.Stream != Stdout && e.Stream != Stderr || !e.Partial && string(fields[2]) != "F" || len(e.Data) > maxPiece {
		return LogEntry{}, 0, notAnEntry(b[:end])
	}
	return e, end + 1, nil
}

func notAnEntry(line []byte) error {
	return fmt.Errorf("not an entry of a log: %.64q", line)
}
