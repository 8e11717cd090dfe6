package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// resolveIO returns l's limits with the numbers of whole disks as devices.
func resolveIO(limits []IOLimit) ([]IOLimit, error) {
	var r []IOLimit
	seen := map[string]int{}
	for i, d := range limits {
		field := fmt.Sprintf("IO[%d].Device", i)
		number, err := disk(d.Device)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", &FieldError{field, d.Device, "no disk can be limited by it"}, err)
		}
		if k, again := seen[number]; again {
			return nil, &FieldError{field, d.Device, fmt.Sprintf("names the disk %s, as IO[%d] does", number, k)}
		}
		seen[number] = i
		d.Device = number
		r = append(r, d)
	}
	return r, nil
}

// disk is the "MAJOR:MINOR" of the whole disk that device means.
func disk(device string) (string, error) {
	number := device
	if _, _, ok := parseDev(device); !ok {
		var st unix.Stat_t
		if err := unix.Stat(device, &st); err != nil {
			return "", pathError("stat", device, err)
		}
		dev := st.Dev
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			dev = st.Rdev
		}
		number = fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))
	}
	// A link to ../../devices/…/block/sda, for a partition to …/block/sda/sda1.
	dir := "/sys/dev/block/" + number
	if !exists(dir) {
		return "", errors.New("no block device " + number + " (tmpfs, overlay, btrfs and network file systems have none: name the disk itself)")
	}
	if !exists(dir + "/partition") {
		return number, nil
	}
	var buf [unix.PathMax]byte
	n, err := unix.Readlink(dir, buf[:])
	if err != nil {
		return "", pathError("readlink", dir, err)
	}
	return readFile(path.Join("/sys/dev/block", path.Dir(string(buf[:n])), "dev"))
}

// io are the settings that limit rates; those that limit nothing have none.
func (m *machine) io(h *hierarchy, l Limits) []setting {
	var s []setting
	for _, d := range l.IO {
		line, none := d.Device, d.Device
		for _, r := range d.rates() {
			if !h.v2 && r.n > 0 {
				s = append(s, setting{r.v1, d.Device, d.Device + " " + strconv.FormatInt(r.n, 10), d.Device + " 0"})
			}
			line, none = line+" "+r.v2+"="+orMax(r.n), none+" "+r.v2+"=max"
		}
		if h.v2 {
			s = append(s, setting{"io.max", d.Device, line, none})
		}
	}
	return s
}

// writeIOWeight writes the weight for the schedulers that are there: each has a file of its own.
func (g *Group) writeIOWeight(h *hierarchy, from, to Limits) error {
	if h.ctl&g.own&IO == 0 || from.IOWeight == to.IOWeight {
		return nil
	}
	weight := orDefault(to.IOWeight)
	files := []setting{{file: "blkio.bfq.weight", value: strconv.Itoa(bfqWeight(weight))}}
	if h.v2 {
		files = []setting{{file: "io.bfq.weight", value: strconv.Itoa(bfqWeight(weight))}, {file: "io.weight", value: "default " + strconv.Itoa(weight)}}
	}
	written := false
	for _, s := range files {
		err := h.write(g.dir(h)+"/"+s.file, s.value)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return denied(h, err)
		}
		written = true
	}
	if !written {
		return &UnsupportedError{What: "IO weight", Remedy: "modprobe bfq and make it the disk's scheduler; on v2 CONFIG_BLK_CGROUP_IOCOST does, too"}
	}
	return nil
}

// ioAlone refuses IO limits that on v1 would not bound what they promise: there a group's limit does not count for the
// groups below it.
func (g *Group) ioAlone(l Limits) error {
	h := g.in(IO)
	if h == nil || h.v2 || len(l.IO) == 0 {
		return nil
	}
	for _, c := range g.below() {
		if c.own&IO != 0 {
			return ioNested(c.rel)
		}
	}
	return nil
}

// ioAbove says whether v1's limit of a group above is to hold g's processes.
func (g *Group) ioAbove() bool {
	for ; g != nil; g = g.parent {
		if h := g.in(IO); h != nil && !h.v2 && len(g.Limits().IO) > 0 {
			return true
		}
	}
	return false
}

func ioNested(name string) error {
	return &UnsupportedError{What: "IO limit above a group with the io controller (" + name + ")",
		Remedy: "use v2: v1's limits don't count for groups below"}
}
