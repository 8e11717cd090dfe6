//go:build linux

package sandbox

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHello(t *testing.T) {
	st, err := Open(t.TempDir())
	require.NoError(t, err)
	defer func() { require.NoError(t, st.Close()) }()
	sb := New(Options{Store: st})
	out, err := sb.Output(t.Context(), Command("sh", "-c", "echo $$; hostname; id -u; pwd; env; cat /proc/self/cgroup"))
	require.NoError(t, err)
	t.Log(string(out))
	for range 10 {
		s := time.Now()
		res, err := sb.Run(t.Context(), Command("true"))
		require.NoError(t, err)
		require.NoError(t, res.Err())
		t.Log(time.Since(s), res.Usage)
	}
	var o bytes.Buffer
	res, err := sb.Run(t.Context(), &Cmd{Args: []string{"sh", "-c", "exit 3"}, Stdout: &o})
	require.NoError(t, err)
	require.Equal(t, 3, res.ExitCode)
	t.Logf("%+v %+v", res, res.Applied)
	_, err = sb.Run(t.Context(), Command("nonexistent"))
	t.Log(err)
	_, err = sb.Run(t.Context(), Command("/etc/passwd"))
	t.Log(err)
	res, err = sb.Run(t.Context(), &Cmd{Args: []string{"sleep", "10"}, Limits: Limits{Wall: 50 * time.Millisecond}})
	t.Log(res, err)
	require.NoError(t, sb.Close())
	os.Stdout.Sync()
}
