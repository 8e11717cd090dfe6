package rootfs

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// explained is an errno together with what the kernel wrote about it.
type explained struct {
	error
	text string
}

func (e *explained) Error() string { return e.error.Error() + ": " + e.text }
func (e *explained) Unwrap() error { return e.error }

// explain adds the messages that a file system context has for its maker (fsopen(2)).
func explain(fs int, err error) error {
	var all []string
	buf := make([]byte, 1024)
	for len(all) < 4 {
		n, readErr := unix.Read(fs, buf)
		if readErr != nil || n <= 0 {
			break // ENODATA: no more
		}
		// "e overlay: text\n": the severity first.
		if _, text, ok := strings.Cut(strings.TrimSpace(string(buf[:n])), " "); ok {
			all = append(all, text)
		}
	}
	if len(all) == 0 || errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return &explained{err, strings.Join(all, "; ")}
}
