//go:build linux

package spawn

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func startTrue(ctx context.Context, nested bool, argv ...string) (*Process, error) {
	return Start(ctx, 3, buildTrue(nested, argv...))
}

func buildTrue(nested bool, argv ...string) func(*Program) {
	return func(p *Program) {
		var in []Ref
		for fd := range 3 {
			in = append(in, p.Input(fd))
		}
		if nested {
			p.ForkCommand(unix.CLONE_NEWPID|unix.CLONE_NEWNS, NoRef)
		}
		for i, fd := range in {
			p.Do("dup3", "", unix.SYS_DUP3, fd, i, 0)
		}
		p.Do("sigmask", "", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, p.Words(0), 0, 8)
		p.Exec([]string{argv[0]}, argv, os.Environ())
	}
}

func TestStart(t *testing.T) {
	for _, nested := range []bool{false, true} {
		p, err := startTrue(t.Context(), nested, "/bin/sh", "-c", "echo hello $$; exit 7")
		require.NoError(t, err)
		s, err := p.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, 7, s.Status.ExitStatus())
		require.NoError(t, p.Close())
	}
}

func BenchmarkStart(b *testing.B) {
	b.Run("osexec", func(b *testing.B) {
		for b.Loop() {
			exec.Command("/bin/true").Run()
		}
	})
	for _, n := range []bool{false, true} {
		b.Run(map[bool]string{false: "plain", true: "nested"}[n], func(b *testing.B) {
			for b.Loop() {
				p, err := startTrue(context.Background(), n, "/bin/true")
				if err != nil {
					b.Fatal(err)
				}
				p.Wait(context.Background())
				p.Close()
			}
		})
	}
}
