package cgroup

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// diskFile is a path on a file system that is on a disk: the working directory, or else one that a block device is mounted
// at.
func diskFile(t testing.TB) string {
	dirs := []string{"."}
	for line := range strings.Lines(slurp("/proc/self/mounts")) {
		if f := strings.Fields(line); strings.HasPrefix(f[0], "/dev/") {
			dirs = append(dirs, f[1])
		}
	}
	for _, dir := range dirs {
		if _, err := disk(dir); err != nil {
			continue
		}
		f, err := os.CreateTemp(dir, "cgroup-test-")
		if err != nil {
			continue
		}
		require.NoError(t, f.Close())
		t.Cleanup(func() { require.NoError(t, os.Remove(f.Name())) })
		return f.Name()
	}
	t.Fatal("no file system on a disk")
	return ""
}

func TestDisk(t *testing.T) {
	file := diskFile(t)
	number, err := disk(file)
	require.NoError(t, err)
	same, err := disk(number)
	require.NoError(t, err)
	require.Equal(t, number, same)
	require.NoFileExists(t, "/sys/dev/block/"+number+"/partition")
	node := t.TempDir() + "/node"
	major, minor, _ := parseDev(number)
	require.NoError(t, syscall.Mknod(node, syscall.S_IFBLK|0o600, int(minor&0xff|major<<8)))
	same, err = disk(node)
	require.NoError(t, err)
	require.Equal(t, number, same)

	tree := openTree(t, Options{})
	for _, bad := range []string{"/proc", "9999:7", "/none"} {
		_, err := tree.New("x", Limits{IO: []IOLimit{{Device: bad, ReadBPS: 1 << 20}}})
		require.ErrorIs(t, err, fs.ErrInvalid, bad)
		require.ErrorContains(t, err, fmt.Sprintf("IO[0].Device: %q: no disk can be limited by it", bad))
	}
	_, err = tree.New("x", Limits{IO: []IOLimit{{Device: file, ReadBPS: 1}, {Device: number, WriteBPS: 1}}})
	require.ErrorContains(t, err, "names the disk "+number+", as IO[0] does")
	require.Empty(t, dirs(tree.opts.Name))
}

// direct writes so many MiB past the page cache and says how long it took.
func direct(t testing.TB, g *Group, file string, mib int) time.Duration {
	start := time.Now()
	c := inside(t, g, "dd", "if=/dev/zero", "of="+file, "bs=256k", fmt.Sprint("count=", 4*mib), "oflag=direct")
	b, err := c.CombinedOutput()
	require.NoError(t, err, "%s", b)
	return time.Since(start)
}

func TestIO(t *testing.T) {
	file := diskFile(t)
	tree := openTree(t, Options{})
	g, err := tree.New("g", Limits{IO: []IOLimit{{Device: file, WriteBPS: 2 << 20}}})
	require.NoError(t, err)
	require.Greater(t, direct(t, g, file, 3), time.Second)
	u, err := g.Usage()
	require.NoError(t, err)
	require.Equal(t, Figure[int64]{3 << 20, true}, u.WriteBytes)
	require.GreaterOrEqual(t, u.WriteOps.Value, int64(12))
	require.True(t, u.ReadBytes.Measured && u.ReadOps.Measured)
	require.NoError(t, g.Update(Limits{IO: []IOLimit{{Device: file, WriteIOPS: 8}}}))
	require.Greater(t, direct(t, g, file, 3), time.Second, "12 operations")
	require.NoError(t, g.Update(Limits{}))
	eventually(t, func() bool { return direct(t, g, file, 3) < time.Second }) // the control; the disk may be somebody else's just now
	require.Equal(t, Limits{}, g.Limits())
	require.NoError(t, g.Update(Limits{IO: []IOLimit{{Device: file, WriteBPS: 2 << 20}}}))
	require.ErrorIs(t, g.Update(Limits{IO: []IOLimit{{Device: "/proc", WriteBPS: 1}}}), fs.ErrInvalid)
	require.Equal(t, file, g.Limits().IO[0].Device)
	require.Greater(t, direct(t, g, file, 3), time.Second, "as before")
}

// A limit bounds the groups below, too; where the kernel can't, there are none that it wouldn't bound.
func TestIONested(t *testing.T) {
	file := diskFile(t)
	tree := openTree(t, Options{Controllers: IO})
	l := Limits{IO: []IOLimit{{Device: file, WriteBPS: 2 << 20}}}
	box, err := tree.New("box", l)
	require.NoError(t, err)
	run, err := box.New("run", Limits{PIDs: 9})
	require.NoError(t, err)
	require.Greater(t, direct(t, run, file, 3), time.Second)
	_, err = box.New("own", Limits{IO: []IOLimit{{Device: file, ReadBPS: 1 << 20}}})
	plain, perr := tree.New("plain", Limits{})
	require.NoError(t, perr)
	_, perr = plain.New("run", Limits{})
	require.NoError(t, perr)
	uerr := plain.Update(l)
	if onV2(t, IO) {
		require.NoError(t, err)
		require.NoError(t, uerr)
		return
	}
	for _, err := range []error{err, uerr} {
		var e *UnsupportedError
		require.ErrorAs(t, err, &e)
		require.Contains(t, e.Remedy, "v1's limits don't count for groups below")
	}
	require.True(t, plain.Limits().IsZero())
}

func TestIOWeight(t *testing.T) {
	for w, want := range map[int]int{1: 1, 100: 100, 5050: 550, 10000: 1000} {
		require.Equal(t, want, bfqWeight(w))
	}
	tree := openTree(t, Options{})
	g, err := tree.New("g", Limits{IOWeight: 1000})
	require.NoError(t, err)
	h := g.in(IO)
	file, want := "blkio.bfq.weight", "181"
	if h.v2 {
		if file, want = "io.weight", "default 1000"; !exists(g.dir(h) + "/" + file) {
			file, want = "io.bfq.weight", "default 181"
		}
	}
	require.Equal(t, want, value(t, g, IO, file))
	require.NoError(t, g.Update(Limits{}))
	require.Contains(t, []string{"100", "default 100"}, value(t, g, IO, file))
}

func TestIOStatistics(t *testing.T) {
	require.Equal(t, ioCount{5, 7}, parseIOServiced("254:0 Read 4\n254:0 Write 7\n254:0 Sync 9\n254:0 Discard 3\n7:0 Read 1\n254:0 Total 11\nTotal 12\n7:1 Read x\n"))
	bytes, ops := parseIOStat("254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:0 rbytes=10 wbytes=x\n")
	require.Equal(t, ioCount{11, 2}, bytes)
	require.Equal(t, ioCount{3, 4}, ops)
}
