//go:build linux

package sandbox_test

import (
	"os"
	"testing"
	"fmt"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

func TestZZ(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		sb := box(t, sandbox.Options{Name: "hello"})
		out, err := sb.Output(t.Context(), sandbox.Command("sh", "-c", `cat /proc/self/mountinfo; ls -l /proc/self/fd; find /dev | sort; cat /proc/self/status /proc/self/limits; env; ls -l /proc/self/ns; ls /sys /sys/fs /sys/kernel /proc; for n in $(seq 3 60); do readlink /proc/self/fd/$n; done; cat /proc/keys; cat /proc/self/cgroup; ls -la / /root /home /var /run /tmp /etc`))
		fmt.Println(string(out))
		require.NoError(t, err)
		_ = os.Args
	})
}
