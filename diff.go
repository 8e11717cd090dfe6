package sandbox

import "context"

// ChangeKind says what became of a file.
type ChangeKind int

// The kinds, as docker diff has them.
const (
	Added    ChangeKind = iota // not there before
	Modified                   // content or attributes; of a directory also that something in it changed
	Deleted                    // not there any more
)

// String is "A", "C" or "D", as docker diff prints it.
func (k ChangeKind) String() string {
	if k < Added || k > Deleted {
		return "?"
	}
	return "ACD"[k : k+1]
}

// A Change is what became of one file or directory.
type Change struct {
	Path string     // absolute, in the sandbox
	Kind ChangeKind // what became of it
}

// Diff lists what was changed in the sandbox since it began with its Options.Image or Rootfs, directories before what is in
// them. Of a directory that was removed it has the directory alone, and of one that was removed and made again (Modified) only
// what is in it now. What Commit leaves out is not listed; errors as those of Commit, but that a Rootfs will do.
func (s *Sandbox) Diff(ctx context.Context) ([]Change, error) {
	b, err := s.core.open(ctx)
	if err != nil {
		return nil, s.wrap("diff", err)
	}
	list, err := b.diff(ctx)
	return list, s.wrap("diff", err)
}
