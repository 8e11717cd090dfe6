package cgroup

import (
	"errors"

	"golang.org/x/sys/unix"
)

// writeDevices makes to hold in h, where from did.
func (g *Group) writeDevices(h *hierarchy, from, to Limits) error {
	if h.ctl&g.own&Devices == 0 || from.sameDevices(to) {
		return nil
	}
	if h.v2 {
		return setDeviceFilter(h, g.dir(h), to.Devices)
	}
	for _, s := range deviceChanges(from.Devices, to.Devices) {
		err := h.write(g.dir(h)+"/"+s.file, s.value)
		if errors.Is(err, unix.EINVAL) && s.value == "a" {
			return &UnsupportedError{What: "device limit for a group with groups below it", Err: err,
				Remedy: "on v1 make the group with Devices, then Update can change them; or use v2"}
		}
		if err != nil {
			return denied(h, err)
		}
	}
	return nil
}

// deviceChanges leads v1's list from one state to the other; nil is everything. Only what is to be taken away is denied,
// so that programs keep what they may have all the time.
func deviceChanges(from, to []string) []setting {
	if to == nil {
		return []setting{{file: "devices.allow", value: "a"}}
	}
	var s []setting
	before, after := parseDevices(from), parseDevices(to)
	if from == nil {
		s = append(s, setting{file: "devices.deny", value: "a"})
	}
	for _, d := range before.without(after) {
		s = append(s, setting{file: "devices.deny", value: d.String()})
	}
	for _, d := range after.without(before) {
		s = append(s, setting{file: "devices.allow", value: d.String()})
	}
	return s
}
