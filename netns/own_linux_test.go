package netns_test

import (
	"io"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox/netns"
)

// Own is the caller's own network with the rules of every Namespace: names are
// nobody's, and Close closes the Listeners.
func TestOwn(t *testing.T) {
	n := netns.Own()
	l, err := n.Listen(t.Context(), "tcp", ":0")
	require.NoError(t, err)
	require.True(t, l.Addr().(*net.TCPAddr).IP.IsLoopback(), "empty is not every address of the host")
	go func() {
		if c, err := l.Accept(); err == nil {
			io.WriteString(c, "here")
			c.Close()
		}
	}()
	c, err := n.Dial(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	data, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "here", string(data))
	_, err = n.Dial(t.Context(), "tcp", "example.com:80")
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, n.Close())
	require.NoError(t, n.Close())
	_, err = l.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = n.Dial(t.Context(), "tcp", ":1")
	require.ErrorIs(t, err, os.ErrClosed)
}
