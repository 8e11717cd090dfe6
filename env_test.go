//go:build linux

package sandbox_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// The environment is the base, then that of Options and of the Cmd, merged by key. Nothing is the embedder's.
func TestEnv(t *testing.T) {
	program := testenv.C(t, printEnv)
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		t.Setenv("OF_THE_EMBEDDER", "1")
		t.Setenv("LANG", "xx_XX")
		st, root := store(t), rootWith(t, map[string]string{"env": program})
		const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
		for name, tt := range map[string]struct{ options, cmd, want []string }{
			"base":      {nil, nil, []string{path, "HOME=/", "USER=0"}},
			"options":   {[]string{"A=1", "B=2"}, nil, []string{path, "HOME=/", "USER=0", "A=1", "B=2"}},
			"cmd over":  {[]string{"A=1", "B=2"}, []string{"A=3", "C="}, []string{path, "HOME=/", "USER=0", "A=3", "B=2", "C="}},
			"base over": {[]string{"HOME=/tmp"}, []string{"PATH=/bin", "USER="}, []string{"PATH=/bin", "HOME=/tmp", "USER="}},
			"twice":     {[]string{"A=1", "A=2"}, []string{"A=3", "A=4"}, []string{path, "HOME=/", "USER=0", "A=4"}},
			"odd":       {[]string{"A==", "b c=d\ne", "é=\xff"}, nil, []string{path, "HOME=/", "USER=0", "A==", "b c=d\ne", "é=\xff"}},
		} {
			sb := sandbox.New(sandbox.Options{Store: st, Rootfs: root, Env: tt.options})
			out, err := sb.Output(t.Context(), &sandbox.Cmd{Args: []string{"env"}, Env: tt.cmd})
			require.NoError(t, err, name)
			require.NoError(t, sb.Close())
			require.Equal(t, tt.want, strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"), name)
		}
	})
}

const printEnv = `
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv, char **env) {
	for (; *env; env++) write(1, *env, strlen(*env) + 1);
	return 0;
}`

// The PATH that the command has is the one it is found by.
func TestPath(t *testing.T) {
	program := testenv.C(t, printEnv)
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		root := rootWith(t, map[string]string{"env": program})
		require.NoError(t, os.Mkdir(filepath.Join(root, "own"), 0o755))
		require.NoError(t, os.Rename(filepath.Join(root, "bin/env"), filepath.Join(root, "own/mine")))
		sb := box(t, sandbox.Options{Rootfs: root, Env: []string{"PATH=/none:/own"}})
		_, err := sb.Output(t.Context(), sandbox.Command("mine"))
		require.NoError(t, err)
		_, err = sb.Output(t.Context(), &sandbox.Cmd{Args: []string{"mine"}, Env: []string{"PATH=/none"}})
		require.ErrorContains(t, err, `"/none/mine"`)
		// A name with a slash is not looked for, and relative to the directory.
		_, err = sb.Output(t.Context(), &sandbox.Cmd{Args: []string{"own/mine"}, Env: []string{"PATH=/none"}})
		require.NoError(t, err)
	})
}

// Changing what New was given changes nothing.
func TestOptionsAreCopied(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		clock := &sandbox.Clock{}
		o := sandbox.Options{Store: store(t), Env: []string{"A=1"}, Labels: map[string]string{"l": "1"}, Clock: clock}
		if !entersClock() {
			requireNoClock(t, box(t, sandbox.Options{Clock: clock}))
			o.Clock = nil
		}
		sb := box(t, o)
		o.Env[0], o.Labels["l"], clock.Boottime = "bad", "2", 1
		out, err := sb.Output(t.Context(), sh("echo $A"))
		require.NoError(t, err)
		require.Equal(t, "1\n", string(out))
		all, err := o.Store.Sandboxes(t.Context())
		require.NoError(t, err)
		require.Equal(t, map[string]string{"l": "1"}, all[0].Labels)
	})
}
