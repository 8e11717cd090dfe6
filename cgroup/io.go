package cgroup

import (
	"fmt"
	"strconv"
	"strings"
)

// IOLimit bounds the rates of one disk. What exceeds one waits. Writes to the page cache are throttled when the kernel
// writes them back, and on v1 then count for nobody: there only reads, direct and synchronous writes are limited.
type IOLimit struct {
	// Device is a device node ("/dev/sda"), a pair of numbers ("8:0"), or any file or directory: the disk that holds its
	// file system. A partition stands for its whole disk, which is what the kernel can limit.
	Device string
	// ReadBPS and WriteBPS are bytes per second; 0: no limit.
	ReadBPS, WriteBPS int64
	// ReadIOPS and WriteIOPS are operations per second; 0: no limit.
	ReadIOPS, WriteIOPS int64
}

func (d IOLimit) validate(f *fieldErrors, i int) {
	field := fmt.Sprintf("IO[%d].", i)
	if d.Device == "" {
		f.add(field+"Device", d.Device, "empty")
	}
	limited := false
	for _, r := range d.rates() {
		if r.n < 0 {
			f.add(field+r.field, r.n, "negative")
		}
		limited = limited || r.n != 0
	}
	if !limited {
		f.add(strings.TrimSuffix(field, "."), d.Device, "no rate is limited")
	}
}

// rate is one of an IOLimit, with its names here and in the kernel.
type rate struct {
	field, v1, v2 string
	n             int64
}

func (d IOLimit) rates() [4]rate {
	return [...]rate{
		{"ReadBPS", "blkio.throttle.read_bps_device", "rbps", d.ReadBPS},
		{"WriteBPS", "blkio.throttle.write_bps_device", "wbps", d.WriteBPS},
		{"ReadIOPS", "blkio.throttle.read_iops_device", "riops", d.ReadIOPS},
		{"WriteIOPS", "blkio.throttle.write_iops_device", "wiops", d.WriteIOPS},
	}
}

// bfqWeight is the weight in the range of the scheduler bfq, 1 to 1000 with the same default, as systemd has it
// (BFQ_WEIGHT).
func bfqWeight(weight int) int {
	if weight <= defaultWeight {
		return weight
	}
	return defaultWeight + (weight-defaultWeight)*(1000-defaultWeight)/(10000-defaultWeight)
}

// ioCount is what was read and written, over all disks.
type ioCount struct{ read, write int64 }

// parseIOServiced adds up the lines "8:0 Read 4096" and "8:0 Write 4096" of v1's blkio files; other operations are
// not what a program reads or writes (Discard), or are counted there again (Sync).
func parseIOServiced(s string) (c ioCount) {
	for line := range strings.Lines(s) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		n, err := strconv.ParseInt(f[2], 10, 64)
		switch {
		case err != nil:
		case f[1] == "Read":
			c.read += n
		case f[1] == "Write":
			c.write += n
		}
	}
	return c
}

// parseIOStat adds up the lines "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0" of v2's io.stat.
func parseIOStat(s string) (bytes, operations ioCount) {
	sums := map[string]*int64{"rbytes": &bytes.read, "wbytes": &bytes.write, "rios": &operations.read, "wios": &operations.write}
	for field := range strings.FieldsSeq(s) {
		k, v, _ := strings.Cut(field, "=")
		if n, err := strconv.ParseInt(v, 10, 64); err == nil && sums[k] != nil {
			*sums[k] += n
		}
	}
	return bytes, operations
}
