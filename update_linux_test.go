//go:build linux

package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/cgroup"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// Update changes what bounds a running command, and the defaults of later ones.
func TestUpdate(t *testing.T) {
	withDies(t, func(t *testing.T) {
		leaks(t)
		st, root := store(t), updateRoot(t)
		sb := box(t, sandbox.Options{Store: st, Rootfs: root, Limits: sandbox.Limits{Memory: 256 << 20, PIDs: 32}})
		if !needsCgroup(t, sb, die("exit", "0")) {
			return
		}
		p, err := sb.Start(t.Context(), &sandbox.Cmd{Args: []string{"/bin/sh", "-c", "read x; /bin/d touch " + strconv.Itoa(64<<20)}, Pipes: sandbox.PipeStdin})
		require.NoError(t, err)
		l := sandbox.Limits{Memory: 32 << 20, PIDs: 5, Output: 10}
		require.NoError(t, sb.Update(t.Context(), l))
		require.Equal(t, l, sb.Limits())
		_, err = p.Stdin.Write([]byte("go\n"))
		require.NoError(t, err)
		require.NoError(t, p.Stdin.Close())
		res, err := p.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, sandbox.MemoryLimit, res.Status)
		require.Contains(t, res.Hit, sandbox.Hit{Status: sandbox.MemoryLimit, Scope: sandbox.ScopeSandbox})

		var out bytes.Buffer
		c := die("fork", "100")
		c.Stdout = &out
		res, err = sb.Run(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, "4 11\n", out.String())
		require.Equal(t, []sandbox.Hit{{Status: sandbox.PIDsLimit, Scope: sandbox.ScopeSandbox}}, res.Hit)
	})
}

// What can't be updated is an error, and the old limits hold.
func TestUpdateBad(t *testing.T) {
	withDies(t, func(t *testing.T) {
		leaks(t)
		st, root := store(t), updateRoot(t)
		fresh := box(t, sandbox.Options{Store: st, Rootfs: root})
		require.ErrorIs(t, fresh.Update(t.Context(), sandbox.Limits{Memory: -1}), fs.ErrInvalid)
		require.NoError(t, fresh.Update(t.Context(), sandbox.Limits{Wall: 50 * time.Millisecond})) // not yet built
		res, err := fresh.Run(t.Context(), sandbox.Command("/bin/sleep", "100"))
		require.NoError(t, err)
		require.Equal(t, sandbox.WallLimit, res.Status)
		err = fresh.Update(t.Context(), sandbox.Limits{Memory: 1 << 30})
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.ErrorContains(t, err, "built without one")
		require.Equal(t, sandbox.Limits{Wall: 50 * time.Millisecond}, fresh.Limits())
		require.NoError(t, fresh.Close())
		require.ErrorIs(t, fresh.Update(t.Context(), sandbox.Limits{}), os.ErrClosed)

		sb := box(t, sandbox.Options{Store: st, Rootfs: root, Limits: sandbox.Limits{Memory: 256 << 20}})
		if !needsCgroup(t, sb, die("exit", "0")) {
			return
		}
		p, err := sb.Start(t.Context(), &sandbox.Cmd{Args: []string{"/bin/sh", "-c", "dd if=/dev/zero of=/dev/shm/f bs=1M count=64; echo; sleep 100"}, Pipes: sandbox.PipeStdout})
		require.NoError(t, err)
		_, err = p.Stdout.Read(make([]byte, 1))
		require.NoError(t, err)
		var inUse *cgroup.InUseError
		require.ErrorAs(t, sb.Update(t.Context(), sandbox.Limits{Memory: 16 << 20}), &inUse)
		require.Greater(t, inUse.Use, int64(64<<20))
		require.True(t, strings.Contains(inUse.Error(), "Memory"), inUse.Error())
		require.EqualValues(t, 256<<20, sb.Limits().Memory)
		require.NoError(t, p.Kill())
		require.NoError(t, p.Stdout.Close())
		_, err = p.Wait(t.Context())
		require.NoError(t, err)

		building := sandbox.New(sandbox.Options{Store: st, Rootfs: root})
		defer building.Close()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.NoError(t, building.Update(ctx, sandbox.Limits{}), "nothing to wait for")
	})
}

// updateRoot has a shell and the program that uses things up.
func updateRoot(t *testing.T) string {
	root := map[string]string{"d": testenv.C(t, dies)}
	for _, applet := range []string{"sh", "sleep", "dd"} {
		root[applet] = "/bin/busybox"
	}
	return rootWith(t, root)
}
