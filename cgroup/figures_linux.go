package cgroup

import (
	"errors"
	"io/fs"
	"strconv"
	"time"
)

// figures gathers values of which some may not be there; the first fault other than a missing file is kept.
type figures struct {
	g   *Group // its meters.mu is held
	err error
}

// text is what a file of the group holds; "" without one.
func (r *figures) text(h *hierarchy, file string) string {
	s, err := r.g.meter(h, file)
	r.keep(err)
	return s
}

func (r *figures) keep(err error) bool {
	if err != nil && r.err == nil && !errors.Is(err, fs.ErrNotExist) {
		r.err = err
	}
	return err == nil
}

// number reads a file with one number.
func (r *figures) number(h *hierarchy, file string) Figure[int64] {
	s, err := r.g.meter(h, file)
	if !r.keep(err) {
		return Figure[int64]{}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		err = pathError("read", r.g.dir(h)+"/"+file, errors.New(strconv.Quote(s)+" is not a number"))
	}
	return Figure[int64]{n, r.keep(err)}
}

// local prefers the file with the group's own events to the one with those of the groups below.
func (r *figures) local(h *hierarchy, file string) string {
	if s := r.text(h, file+".local"); s != "" {
		return s
	}
	return r.text(h, file)
}

func key(text, k string) Figure[int64] {
	n, ok := parseKey(text, k)
	return Figure[int64]{n, ok}
}

func duration(f Figure[int64], unit time.Duration) Figure[time.Duration] {
	return Figure[time.Duration]{time.Duration(f.Value) * unit, f.Measured}
}
