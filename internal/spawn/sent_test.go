//go:build linux

package spawn

import (
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// A command's program can send descriptors up to its exec, from its last one on: they are the starter's, and the command
// has none.
func TestSent(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		testenv.Leaks(t)
		t.Cleanup(Release)
		out, in, err := os.Pipe()
		require.NoError(t, err)
		defer out.Close()
		for _, build := range []func(middle func(*Program)) func(*Program){
			func(middle func(*Program)) func(*Program) { return middle },
			func(middle func(*Program)) func(*Program) {
				return func(p *Program) { p.ForkCommand(0, NoRef); middle(p) }
			},
		} {
			p, err := Start(t.Context(), Setup{Files: 3}, build(func(p *Program) {
				for i, f := range []int{0, int(in.Fd()), 2} {
					p.Do("dup3", "", unix.SYS_DUP3, p.Input(f), i, 0)
				}
				p.CloseFromButSend(3)
				p.Do("rt_sigprocmask", "", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, p.Words(0), 0, 8)
				p.Exec([]string{"/bin/sh"}, []string{"sh", "-c", "ls /proc/self/fd | wc -l"}, os.Environ(), func() {
					p.Send(p.Do("memfd_create", "", unix.SYS_MEMFD_CREATE, "sent", unix.MFD_CLOEXEC))
				})
			}))
			require.NoError(t, err)
			require.Len(t, p.Sent, 1)
			f := os.NewFile(uintptr(p.Sent[0]), "sent")
			_, err = f.WriteString("x")
			require.NoError(t, err)
			require.NoError(t, f.Close())
			require.Zero(t, wait(t, p).ExitStatus())
			b := make([]byte, 10)
			n, err := io.ReadAtLeast(out, b, 2)
			require.NoError(t, err)
			require.Equal(t, "4\n", string(b[:n]), "0 to 2, and that of ls")
		}
		require.NoError(t, in.Close())
	})
}
