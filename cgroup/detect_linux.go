package cgroup

import (
	"cmp"
	"errors"
	"io/fs"
	"math/bits"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// hierarchy is a tree of cgroups that is mounted here.
type hierarchy struct {
	index  int         // its bit in Group.made
	mount  string      // mount point
	parent string      // Options.Parent in it, absolute
	ctl    Controllers // what it has
	v2     bool
	nested bool // v1's memory: a limit counts for the groups below, too

	mu   sync.RWMutex // held while fd is used
	fd   int          // parent's, valid when open
	open bool
}

// machine is what is mounted, in the order in which a child joins.
type machine struct {
	hier []*hierarchy
	mode Mode
	// noMemsw: v1 without swap accounting.
	noMemsw bool
}

// detect reads the mounts and resolves parent in each; "" is the default.
func detect(parent string) (*machine, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	m := &machine{}
	for _, mt := range visible(parseMountinfo(string(text))) {
		m.add(mt)
	}
	var v1 Controllers
	for _, h := range m.hier {
		if !h.v2 {
			v1 |= h.ctl
			m.noMemsw = m.noMemsw || h.ctl&Memory != 0 && !exists(h.mount+"/memory.memsw.limit_in_bytes")
		}
	}
	for _, h := range m.hier {
		if err := h.place(parent, v1); err != nil {
			return nil, err
		}
		h.nested = h.v2 || h.ctl&Memory == 0 || nested(h.mount)
	}
	slices.SortFunc(m.hier, func(a, b *hierarchy) int { return cmp.Compare(bits.Len32(rank(a)), bits.Len32(rank(b))) })
	for i, h := range m.hier {
		h.index = i
	}
	m.mode = modeOf(m.hier)
	return m, nil
}

// rank orders by the last of the controllers that a v1 hierarchy has.
func rank(h *hierarchy) uint32 {
	var r uint32
	for i, n := range controllerNames {
		if h.ctl&n.c != 0 {
			r = 1 << i
		}
	}
	return r
}

// visible drops mounts that another one covers, and all but the first of those that show the same hierarchy, where the
// whole hierarchy goes before a part of it.
func visible(ms []mount) []mount {
	slices.SortStableFunc(ms, func(a, b mount) int { return cmp.Compare(len(a.root), len(b.root)) })
	seen := map[uint64]bool{}
	return slices.DeleteFunc(ms, func(m mount) bool {
		var st unix.Stat_t
		dev := unix.Mkdev(m.major, m.minor)
		if seen[dev] || unix.Stat(m.point, &st) != nil || st.Dev != dev {
			return true
		}
		seen[dev] = true
		return false
	})
}

// add takes v1 hierarchies with controllers that we use, and v2.
func (m *machine) add(mt mount) {
	if mt.v2 || mt.ctl != 0 {
		m.hier = append(m.hier, &hierarchy{mount: mt.point, ctl: mt.ctl, v2: mt.v2})
	}
}

func modeOf(hier []*hierarchy) Mode {
	var v1, v2 bool
	for _, h := range hier {
		v1, v2 = v1 || !h.v2, v2 || h.v2
	}
	switch {
	case v1 && v2:
		return ModeHybrid
	case v2:
		return ModeV2
	case v1:
		return ModeV1
	}
	return ""
}

// place sets the parent directory and, on v2, the controllers: those that groups in it can have, and the core's, unless
// v1 has them.
func (h *hierarchy) place(parent string, v1 Controllers) error {
	h.parent = path.Join(h.mount, parent)
	if !h.v2 {
		return nil
	}
	if parent == "" && os.Geteuid() != 0 {
		own, err := os.ReadFile("/proc/self/cgroup")
		if err != nil {
			return err
		}
		h.parent = usersOwn(h.mount, string(own))
	}
	delegated, err := h.delegated()
	h.ctl = (delegated | core) &^ v1
	return err
}

// delegated are the controllers that a directory at the parent has or can be given: on the way to it a directory gives to
// the next what its cgroup.subtree_control says, which we change where we may.
func (h *hierarchy) delegated() (Controllers, error) {
	dir := h.mount
	c, err := controllersOf(dir)
	for part := range strings.SplitSeq(strings.TrimPrefix(h.parent, dir+"/"), "/") {
		if err != nil || dir == h.parent {
			break
		}
		fixed := unix.Access(dir+"/cgroup.subtree_control", unix.W_OK) != nil
		dir = path.Join(dir, part)
		var have Controllers
		if have, err = controllersOf(dir); gone(err) {
			return c, nil // It is to be made.
		}
		if fixed {
			c &= have
		}
	}
	return c, err
}

func controllersOf(dir string) (Controllers, error) {
	names, err := readFile(dir + "/cgroup.controllers")
	return parseControllers(names, func(r rune) bool { return r == ' ' }), err
}

// usersOwn is the topmost directory from the mount point down to our own cgroup in which we may make cgroups and
// from which we may move processes (cgroup-v2.rst, "Delegation"); the mount point if there is none.
func usersOwn(mount, own string) string {
	p, ok := parseUnifiedPath(own)
	if !ok {
		return mount
	}
	dir := mount
	for _, part := range strings.Split(strings.Trim(path.Clean(p), "/"), "/") {
		dir = path.Join(dir, part)
		if unix.Access(dir, unix.W_OK) == nil && unix.Access(dir+"/cgroup.procs", unix.W_OK) == nil {
			return dir
		}
	}
	return mount
}

// nested says whether memory limits count for the groups below, too: always so since Linux 5.11, and inherited.
func nested(dir string) bool {
	v, err := readFile(dir + "/memory.use_hierarchy")
	return v == "1" || errors.Is(err, fs.ErrNotExist)
}

func (m *machine) available() Controllers {
	var c Controllers
	for _, h := range m.hier {
		c |= h.ctl
	}
	return c
}

// check returns an error for each controller that is asked for and not there.
func (m *machine) check(need Controllers) error {
	var errs []error
	for _, n := range controllerNames {
		if need&n.c&^m.available() != 0 {
			errs = append(errs, &UnsupportedError{What: n.name + " controller", Remedy: m.remedy(n.name), Err: m.missing()})
		}
	}
	return errors.Join(errs...)
}

// domain refuses a v2 parent whose children could hold no process (cgroup-v2.rst, "Threads").
func (m *machine) domain() error {
	for _, h := range m.hier {
		kind, err := readFile(h.parent + "/cgroup.type") // The root has none, and v1.
		if err == nil && (kind == "threaded" || kind == "domain invalid") {
			return &UnsupportedError{What: "parent " + h.parent, Err: errors.New(kind), Remedy: "name a directory whose cgroup.type is domain"}
		}
	}
	return nil
}

func (m *machine) missing() error {
	if m.mode == ModeV2 {
		return errors.New("not delegated, or not in the kernel")
	}
	return errors.New("not mounted")
}

func (m *machine) remedy(name string) string {
	switch {
	case m.mode == "":
		return "mount cgroup2, for example at /sys/fs/cgroup"
	case name == "unified":
		return "mount cgroup2, for example at /sys/fs/cgroup/unified"
	case m.mode == ModeV2:
		return "write +" + name + " to cgroup.subtree_control above the parent directory, for systemd: Delegate=" + name
	}
	if name == "io" {
		name = blkio
	}
	return "mount -t cgroup -o " + name + " cgroup /sys/fs/cgroup/" + name + ", and boot without cgroup_disable=" + name
}

// denied turns the kernel's refusal to make or change a cgroup into what the caller can do about it.
func denied(h *hierarchy, err error) error {
	if err == nil || !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.EROFS) {
		return err
	}
	what := h.ctl.String() + " controller"
	if h.v2 {
		what = "v2 directory"
	}
	return &UnsupportedError{What: what, Err: err,
		Remedy: "run as root, or have a cgroup delegated (systemd: Delegate=yes; else chown a directory) and name it as the parent; in a container mount cgroups writable"}
}
