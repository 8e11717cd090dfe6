package cgroup

import (
	"errors"
	"strings"
)

// defaultPrefix begins the names of directories when Options.Parent is empty, for others have theirs beside them.
const defaultPrefix = "sandbox."

// defaultLeaves is how many prepared leaves a group keeps at most when Options.Leaves is 0.
const defaultLeaves = 16

// Options say where a Tree is and what its groups have.
type Options struct {
	// Parent is the directory in which groups are made, as NAME.GROUP: a path relative to the root of each hierarchy as
	// it is mounted here, for example "machine.slice/app". Empty: that root itself, for an ordinary user on v2 what is
	// delegated to him; the groups are sandbox.NAME.GROUP there.
	// (In the NAME of a directory ":d" stands for a dot and ":c" for a colon.)
	Parent string
	// Name is unique to the owner, for a Recover of it ends all trees of the name. Required.
	Name string
	// Controllers that every group has, asked for by a limit or not; 0: only those that limits need.
	Controllers Controllers
	// Leaves is how many prepared leaves each group in use keeps at most; 0: 16; negative: none.
	Leaves int
}

func (o Options) validate() error {
	var errs []error
	if strings.HasPrefix(o.Parent, "/") {
		errs = append(errs, &FieldError{"Parent", o.Parent, "absolute: it is the path in each hierarchy, as in /proc/PID/cgroup without its first slash"})
	} else if o.Parent != "" {
		for part := range strings.SplitSeq(o.Parent, "/") {
			if reason := badComponent(part); reason != "" {
				errs = append(errs, &FieldError{"Parent", o.Parent, reason})
				break
			}
		}
	}
	if reason := badName(o.Name); reason != "" {
		errs = append(errs, &FieldError{"Name", o.Name, reason})
	} else if len(o.prefix()) > maxPrefix {
		errs = append(errs, &FieldError{"Name", o.Name, "longer than 200 bytes, with those around it"})
	}
	if c := o.Controllers &^ all; c != 0 {
		errs = append(errs, &FieldError{"Controllers", uint32(o.Controllers), "unknown bits"})
	}
	return errors.Join(errs...)
}

// prefix begins the names of the directories that the tree has in its parent. The owner's name ends with its first dot,
// those that were in it being replaced, so that no owner's prefix begins another's.
func (o Options) prefix() string {
	s := strings.NewReplacer(":", ":c", ".", ":d").Replace(o.Name) + "."
	if o.Parent == "" {
		return defaultPrefix + s
	}
	return s
}

// maxPrefix leaves room for the names of groups in the 255 bytes of a directory's.
const maxPrefix = 200

// badComponent says why s can't be a directory in a path of cgroups; "" if it can.
func badComponent(s string) string {
	switch {
	case s == "":
		return "empty, or an empty part of a path"
	case s == "." || s == "..":
		return "leads elsewhere"
	case len(s) > 255:
		return "longer than 255 bytes"
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '/' || r == '\\' }):
		return "control character, slash or backslash"
	}
	return ""
}

// badName is badComponent for a directory that we make. The kernel's files share a name space with the directories:
// only the part before the first dot tells them apart for all kernels to come (Documentation/admin-guide/cgroup-v2.rst,
// "Avoid Name Collisions").
func badName(s string) string {
	if reason := badComponent(s); reason != "" {
		return reason
	}
	switch prefix, _, _ := strings.Cut(s, "."); prefix {
	case "cgroup", "memory", "pids", "cpu", "cpuacct", "cpuset", "freezer", "io", "blkio", "devices", "hugetlb",
		"rdma", "misc", "dmem", "perf_event", "net_cls", "net_prio", "debug", "irq", "tasks", "notify_on_release", "release_agent":
		return "name of a file of the kernel's"
	}
	return ""
}
