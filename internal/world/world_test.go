//go:build linux

package world

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func testMap() IDMap {
	if os.Geteuid() == 0 {
		r := []Range{{0, 524288, 65536}}
		return IDMap{UIDs: r, GIDs: r}
	}
	return IDMap{UIDs: []Range{{0, os.Geteuid(), 1}}, GIDs: []Range{{0, os.Getegid(), 1}}}
}

func TestHostWorld(t *testing.T) {
	ns, err := NewNamespaces(t.Context(), testMap(), true)
	require.NoError(t, err)
	w, err := Build(t.Context(), Spec{Namespaces: ns, Map: testMap(), Hostname: "box", Root: HostRoot{}})
	require.NoError(t, err)
	defer w.Close()
	lim, err := Rlimits(nil)
	require.NoError(t, err)
	p, err := w.Start(t.Context(), Command{Paths: []string{"/bin/sh"}, Args: []string{"sh", "-c", "echo hello; echo $$; ps ax; hostname; id; cat /proc/mounts; ls -la / /dev /proc/self/fd; cat /proc/self/status; ls /sys/class/net; ulimit -a; cat /proc/self/uid_map"}, Dir: "/",
		Env:   []string{"PATH=/usr/bin:/bin"},
		Files: []*os.File{nil, os.Stdout, os.Stderr}, Rlimits: lim})
	require.NoError(t, err)
	s, err := p.Wait(t.Context())
	require.NoError(t, err)
	require.Equal(t, unix.WaitStatus(0), s.Status)
	p.Close()
}
