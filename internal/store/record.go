package store

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"time"
	"unicode/utf8"
)

const (
	// Version is the format of records and stores that this package writes, and the newest that it reads.
	Version = 1
	// MaxRecord is the largest record in bytes of JSON.
	MaxRecord = 64 << 10
)

// Record says what a live sandbox has in the kernel and on disk, so that another program can remove it. It holds no
// secret: neither environment nor file contents. A field that an older program must not lose when it
// replaces the record comes with a new Version; others may be added freely, unknown ones are ignored.
type Record struct {
	Version int               `json:"version"`          // set by Create
	Name    string            `json:"name"`             // unique in the store; made up by Create when empty
	Owner   string            `json:"owner"`            // set by Create: the handle that made it
	Created time.Time         `json:"created"`          // set by Create when zero
	Labels  map[string]string `json:"labels,omitempty"` // the user's
	Block   uint32            `json:"block,omitempty"`  // first id of its block; 0: it has none
	Cgroup  string            `json:"cgroup,omitempty"` // its cgroup, to be removed; empty: none
	Parent  string            `json:"parent,omitempty"` // the cgroup that this one is in; empty: the default
	Upper   string            `json:"upper,omitempty"`  // directory to be removed with all in it; empty: none
}

// clone returns r without memory that the caller may change, and without a monotonic clock, as it will be read back.
func (r Record) clone() Record {
	r.Labels = maps.Clone(r.Labels)
	r.Created = r.Created.Round(0)
	return r
}

// encode checks r and returns its JSON.
func (r *Record) encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", fs.ErrInvalid, err) // Created: a year that JSON can't say
	}
	if len(b) > MaxRecord {
		return nil, fmt.Errorf("%w: %d bytes are more than the %d of a record", fs.ErrInvalid, len(b), MaxRecord)
	}
	return b, nil
}

// check refuses what JSON would not return as it was: it replaces bytes that are not UTF-8, and Recover would then
// remove another path than the sandbox's.
func (r *Record) check() error {
	if err := CheckName(r.Name); err != nil {
		return err
	}
	for k, v := range r.Labels {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return fmt.Errorf("label %q=%q: %w: not UTF-8", k, v, fs.ErrInvalid)
		}
	}
	for _, p := range []string{r.Cgroup, r.Parent, r.Upper} {
		if !utf8.ValidString(p) {
			return fmt.Errorf("path %q: %w: not UTF-8", p, fs.ErrInvalid)
		}
	}
	return nil
}

// decode reads the record in a file called name.
func decode(b []byte, name string) (Record, error) {
	if len(b) > MaxRecord {
		return Record{}, corrupt("too large")
	}
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return Record{}, notOurs(b, err)
	}
	switch {
	case r.Version > Version:
		return Record{}, newer(r.Version)
	case r.Version < 1:
		return Record{}, corrupt("no version")
	}
	switch {
	case CheckName(name) != nil:
		return Record{}, corrupt("not the name of a sandbox")
	case r.Name != name:
		return Record{}, corrupt(fmt.Sprintf("it is called %q inside", r.Name))
	case !validOwner(r.Owner):
		return Record{}, corrupt(fmt.Sprintf("owner %q", r.Owner))
	case r.Block != 0 && !validBlock(r.Block):
		return Record{}, corrupt(fmt.Sprintf("block %d", r.Block))
	}
	return r, nil
}

// notOurs says why b is no Record: the fields of a newer one may have other types.
func notOurs(b []byte, err error) error {
	var v struct{ Version int }
	if json.Unmarshal(b, &v) == nil && v.Version > Version {
		return newer(v.Version)
	}
	return corrupt(err)
}

func newer(version int) error {
	return fmt.Errorf("%w: version %d, this program knows %d", ErrNewer, version, Version)
}
