package cgroup

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDeviceSets(t *testing.T) {
	a, b := []string{"c 1:* rw", "b 8:0 rwm", "c 5:1 r"}, []string{"c 1:3 rm", "c *:9 w", "b *:* m"}
	require.Equal(t, []string{"b 8:0 m", "c 1:3 r", "c 1:9 w"}, tighterDevices(a, b))
	require.Equal(t, tighterDevices(a, b), tighterDevices(b, a))
	require.Equal(t, a, tighterDevices(a, nil))
	require.Equal(t, a, tighterDevices(nil, a))
	require.Equal(t, []string{}, tighterDevices(a, []string{}), "none, not all")
	require.Nil(t, looserDevices(a, nil))
	require.Equal(t, []string{"c 1:3 rwm", "c 1:5 r"}, looserDevices([]string{"c 1:3 rw"}, []string{"c 1:5 r", "c 1:3 m"}))
	changes := func(from, to []string) string { return strings.Join(writes(deviceChanges(from, to)), ", ") }
	require.Equal(t, "devices.deny=a, devices.allow=c 1:3 r", changes(nil, []string{"c 1:3 r"}))
	require.Equal(t, "devices.deny=c 1:3 w, devices.allow=c 1:3 m, devices.allow=c 1:5 r", changes([]string{"c 1:3 rw"}, []string{"c 1:3 rm", "c 1:5 r"}))
	require.Equal(t, "devices.deny=c 1:3 rw", changes([]string{"c 1:3 rw"}, []string{}))
	require.Equal(t, "devices.allow=a", changes([]string{"c 1:3 rw"}, nil))
}

// probe says which of null read, null written, null both, zero read and made are possible in g.
func probe(t testing.TB, g *Group) string {
	t.Helper()
	const script = `exec 2>&-
	for try in 'r:: </dev/null' 'w:: >/dev/null' 'b:: <>/dev/null' 'z:: </dev/zero' "m:mknod $1 c 1 3"; do
		(eval "${try#*:}") && printf ${try%%:*}
	done; rm -f "$1"`
	return output(t, inside(t, g, "sh", "-c", script, "sh", t.TempDir()+"/node"))
}

func TestDevices(t *testing.T) {
	tree := openTree(t, Options{Controllers: Devices})
	box, err := tree.New("box", Limits{})
	require.NoError(t, err)
	free, err := box.New("free", Limits{})
	require.NoError(t, err)
	require.Equal(t, "rwbzm", probe(t, free), "control")
	for _, c := range []struct {
		list []string
		want string
	}{
		{[]string{"c 1:3 rw", "c 1:5 r"}, "rwbz"},
		// Reading alone does not open for both.
		{[]string{"c 1:3 r"}, "r"},
		{[]string{"c 1:3 w", "c 1:3 r"}, "rwb"},
		{[]string{"c 1:* rm"}, "rzm"},
		{[]string{"c *:3 wm"}, "wm"},
		{[]string{"b 1:3 rwm"}, ""},
		{StandardDevices(), "rwbzm"},
		{[]string{}, ""},
		{nil, "rwbzm"},
	} {
		g, err := box.New("g", Limits{Devices: c.list})
		require.NoError(t, err)
		require.Equal(t, c.want, probe(t, g), "%v", c.list)
		require.NoError(t, g.Remove(limit(t)))
		require.NoError(t, free.Update(Limits{Devices: c.list}))
		require.Equal(t, c.want, probe(t, free), "updated: %v", c.list)
	}
}

// What a group above doesn't allow is not allowed, whatever the one below asks for, and Update above counts below.
func TestDevicesNested(t *testing.T) {
	tree := openTree(t, Options{})
	box, err := tree.New("box", Limits{Devices: []string{"c 1:3 rw"}})
	require.NoError(t, err)
	more, err := box.New("more", Limits{Devices: []string{"c 1:* rwm"}})
	require.NoError(t, err)
	plain, err := box.New("plain", Limits{PIDs: 9})
	require.NoError(t, err)
	less, err := box.New("less", Limits{Devices: []string{"c 1:3 r"}})
	require.NoError(t, err)
	all := func() string { return probe(t, more) + " " + probe(t, plain) + " " + probe(t, less) }
	require.Equal(t, "rwb rwb r", all())
	for _, c := range []struct {
		list []string
		want string
	}{
		{[]string{"c 1:3 r", "c 1:5 r"}, "rz rz r"},
		{[]string{"c 1:3 w"}, "w w "},
		{[]string{}, "  "},
		{[]string{"c 1:3 rw"}, "rwb rwb r"},
	} {
		require.NoError(t, box.Update(Limits{Devices: c.list}))
		require.Equal(t, c.want, all(), "%v", c.list)
	}
	require.Equal(t, []string{"c 1:* rwm"}, more.Limits().Devices)
	err = box.Update(Limits{})
	if onV2(t, Devices) {
		require.NoError(t, err)
		require.Equal(t, "rwbzm rwbzm r", all())
		return
	}
	var e *UnsupportedError
	require.ErrorAs(t, err, &e)
	require.Contains(t, e.Remedy, "make the group with Devices")
	require.Equal(t, "rwb rwb r", all())
}
