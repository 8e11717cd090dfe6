package cgroup

import (
	"errors"
	"io/fs"
	"strconv"
	"time"
)

// figures gathers values of which some may not be there; the first fault other than a missing file is kept.
type figures struct {
	read func(path string) (string, error)
	err  error
}

func (r *figures) keep(err error) bool {
	if err != nil && r.err == nil && !errors.Is(err, fs.ErrNotExist) {
		r.err = err
	}
	return err == nil
}

// number reads a file with one number.
func (r *figures) number(path string) Figure[int64] {
	s, err := r.read(path)
	if !r.keep(err) {
		return Figure[int64]{}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		err = pathError("read", path, errors.New(strconv.Quote(s)+" is not a number"))
	}
	return Figure[int64]{n, r.keep(err)}
}

// keys reads a file of lines "key number"; nil without one.
func (r *figures) keys(path string) map[string]int64 {
	s, err := r.read(path)
	if !r.keep(err) {
		return nil
	}
	return parseKeys(s)
}

// local prefers the file with the group's own events to the one with those of the groups below.
func (r *figures) local(path string) map[string]int64 {
	if m := r.keys(path + ".local"); m != nil {
		return m
	}
	return r.keys(path)
}

func key(m map[string]int64, k string) Figure[int64] {
	n, ok := m[k]
	return Figure[int64]{n, ok}
}

func duration(f Figure[int64], unit time.Duration) Figure[time.Duration] {
	return Figure[time.Duration]{time.Duration(f.Value) * unit, f.Measured}
}
