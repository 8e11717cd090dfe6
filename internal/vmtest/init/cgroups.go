//go:build linux

package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"github.com/seed-5a9fb6e0/sandbox/internal/vmtest/plan"
)

const cgroupDir = "/sys/fs/cgroup"

func cgroups(p *plan.Plan) error {
	switch p.Cgroup {
	case plan.CgroupNone:
		return nil
	case plan.CgroupV2:
		// As systemd mounts it; memory_recursiveprot is of 5.7, nsdelegate of 4.13.
		return mount("cgroup2", cgroupDir, "cgroup2", 0, "nsdelegate,memory_recursiveprot")
	}
	if err := mount("tmpfs", cgroupDir, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	names, err := controllers()
	if err != nil {
		return err
	}
	for _, name := range append(names, "name=systemd,none") {
		dir := cgroupDir + "/" + strings.TrimSuffix(strings.TrimPrefix(name, "name="), ",none")
		if err := mount("cgroup", dir, "cgroup", 0, name); err != nil {
			return err
		}
	}
	if p.Cgroup == plan.CgroupHybrid {
		return mount("cgroup2", cgroupDir+"/unified", "cgroup2", 0, "")
	}
	return nil
}

// controllers are those that can be mounted, by /proc/cgroups (cgroups(7)).
func controllers() ([]string, error) {
	f, err := os.Open("/proc/cgroups")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var names []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.Fields(lines.Text()) // name, hierarchy, number of groups, enabled
		if len(line) == 4 && line[0] != "#subsys_name" && line[3] == "1" {
			names = append(names, line[0])
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("/proc/cgroups: no controllers")
	}
	return names, nil
}
