package cgroup

import (
	"os"
	"strconv"
	"strings"
)

// hugePages are the sizes that this machine has.
func hugePages() []int64 {
	entries, err := os.ReadDir("/sys/kernel/mm/hugepages") // "hugepages-2048kB"
	if err != nil {
		return nil // a kernel without
	}
	var sizes []int64
	for _, e := range entries {
		s := strings.TrimSuffix(strings.TrimPrefix(e.Name(), "hugepages-"), "kB")
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			sizes = append(sizes, n<<10)
		}
	}
	return sizes
}
