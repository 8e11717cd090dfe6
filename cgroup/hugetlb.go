package cgroup

import "strconv"

func badHugeTLB(size, limit int64) string {
	switch {
	case size <= 0 || size&(size-1) != 0:
		return "a page size of " + strconv.FormatInt(size, 10) + " is not a power of two"
	case limit < 0:
		return "negative"
	}
	return ""
}

// hugePage is how the kernel's files name a page size (hugetlb_cgroup_file_init in mm/hugetlb_cgroup.c).
func hugePage(size int64) string {
	switch {
	case size >= 1<<30:
		return strconv.FormatInt(size>>30, 10) + "GB"
	case size >= 1<<20:
		return strconv.FormatInt(size>>20, 10) + "MB"
	}
	return strconv.FormatInt(size>>10, 10) + "KB"
}
