package sandbox_test

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// Each profile is installed, is the one that was asked for, and Applied says so.
func TestSeccomp(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		alg := fmt.Sprintf("call %d %d 5 0", unix.SYS_SOCKET, unix.AF_ALG)
		own := `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["getcwd"],"action":"SCMP_ACT_ERRNO","errnoRet":16}]}`
		for _, c := range []struct {
			profile, name string
			results       map[string]string // of attempts
		}{
			{"", "default", map[string]string{alg: "EPERM", "pdeathsig": "ok", "cwd": "ok", "lease /tmp/l": "EPERM"}},
			{"strict", "strict", map[string]string{alg: "EPERM", "pdeathsig": "EPERM", "cwd": "ok", "lease /tmp/l": "EPERM"}},
			{"docker", "docker", map[string]string{alg: "EPERM", "pdeathsig": "ok", "cwd": "ok", "lease /tmp/l": "ok"}},
			{"off", "", map[string]string{alg: "EAFNOSUPPORT|ok", "pdeathsig": "ok", "cwd": "ok", "lease /tmp/l": "ok"}},
			{own, "own", map[string]string{alg: "EAFNOSUPPORT|ok", "pdeathsig": "ok", "cwd": "EBUSY", "lease /tmp/l": "ok"}},
		} {
			sb := box(t, sandbox.Options{Security: sandbox.Security{Seccomp: c.profile}})
			for attempt, want := range c.results {
				require.Contains(t, strings.Split(want, "|"), inside(t, sb, strings.Fields(attempt)...), "%q: %s", c.profile, attempt)
			}
			for _, withInit := range []bool{false, true} {
				cmd := sandbox.Command("grep", "^Seccomp", "/proc/self/status")
				cmd.Init = withInit
				r, err := sb.Run(t.Context(), cmd)
				require.NoError(t, err)
				status := output(t, sb, cmd)
				if c.name == "" {
					require.Empty(t, r.Applied.Seccomp)
					require.Equal(t, "Seccomp:\t0\nSeccomp_filters:\t0", status)
					continue
				}
				require.Regexp(t, "^"+c.name+" sha256:[0-9a-f]{64}$", r.Applied.Seccomp)
				require.Equal(t, "Seccomp:\t2\nSeccomp_filters:\t1", status)
			}
		}
	})
}

// A call that kills is seen as the signal that it is.
func TestSeccompKills(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		kills := `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["getcwd"],"action":"SCMP_ACT_KILL_PROCESS"}]}`
		sb := box(t, sandbox.Options{Security: sandbox.Security{Seccomp: kills}})
		r, err := sb.Run(t.Context(), attemptCmd(t, "cwd"))
		require.NoError(t, err)
		require.Equal(t, sandbox.Signaled, r.Status)
		require.Equal(t, syscall.SIGSYS, r.Signal)
	})
}

// The start needs no more than it says of a profile, and a command that isn't there is told as one.
func TestSeccompMinimal(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		for _, other := range []string{"SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"} {
			minimal := fmt.Sprintf(`{"defaultAction":%q,"syscalls":[{"names":["execve","exit_group"],"action":"SCMP_ACT_ALLOW"}]}`, other)
			sb := box(t, sandbox.Options{Security: sandbox.Security{Seccomp: minimal}})
			r, err := sb.Run(t.Context(), sandbox.Command("true"))
			require.NoError(t, err, "%s: the command itself needs more, and ends", other)
			require.NotEqual(t, 0, r.ExitCode)
			_, err = sb.Run(t.Context(), sandbox.Command("/nowhere"))
			require.ErrorIs(t, err, exec.ErrNotFound, "the child was killed, and with it, before Linux 5.16, who shares its memory: us")
		}
	})
}

func TestSeccompBad(t *testing.T) {
	for text, want := range map[string]string{
		"strickt":                            `neither "", "strict", "docker", "off" nor a profile in JSON`,
		`{"a":1}`:                            `unknown field "a"`,
		`{`:                                  "unexpected EOF",
		"/etc/x.json":                        "nor a profile in JSON",
		`{"defaultAction":"SCMP_ACT_ERRNO"}`: "does not allow execve",
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mout"],"action":"SCMP_ACT_KILL"}]}`: `"mout"`,
	} {
		sb := sandbox.New(sandbox.Options{Store: store(t), Security: sandbox.Security{Seccomp: text}})
		_, err := sb.Run(t.Context(), sandbox.Command("true"))
		var field *sandbox.FieldError
		require.True(t, errors.As(err, &field), "%v", err)
		require.Equal(t, "Options.Security.Seccomp", field.Field)
		require.ErrorContains(t, err, want)
		require.NoError(t, sb.Close())
	}
}

// What people run works under the profile that they get unasked, and what a judge runs under the strict one.
func TestSeccompUsual(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		for _, profile := range []string{"", "strict", "docker"} {
			sb := box(t, sandbox.Options{Security: sandbox.Security{Seccomp: profile}})
			for _, script := range []string{
				"echo a | sort | wc -l; ls -l / >/dev/null; ps >/dev/null",
				"cd /tmp && mkdir d && cp /bin/true d/t && mv d/t d/u && ln -s u d/v && chmod 755 d/u && d/v && rm -r d",
				"mkfifo /tmp/f && (echo x >/tmp/f & cat /tmp/f) && rm /tmp/f",
				"sleep 0.01 & wait; kill -0 $$; trap 'true' USR1; kill -USR1 $$; ulimit -n 100; nice -n 1 true; umask 077",
				"if command -v perl; then perl -MSocket -e 'socketpair(A,B,AF_UNIX,SOCK_STREAM,0) or die; fork or exit 3; wait; die unless $?>>8==3'; fi",
				"if command -v python3; then python3 -c 'import threading; t=threading.Thread(target=print); t.start(); t.join()'; fi",
			} {
				shell(t, sb, "set -e; "+script)
			}
		}
	})
}

// Require sees what a command would get, and can refuse it: then nothing was started or is left.
func TestRequire(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		refused := errors.New("without an init")
		var seen *sandbox.Applied
		sb := box(t, sandbox.Options{Security: sandbox.Security{Require: func(a *sandbox.Applied) error {
			seen = a
			if !a.Init {
				return refused
			}
			return nil
		}}})
		_, err := sb.Run(t.Context(), sandbox.Command("true"))
		require.ErrorIs(t, err, refused)
		require.ErrorContains(t, err, "Security.Require")
		_, err = sb.Start(t.Context(), sandbox.Command("true"))
		require.ErrorIs(t, err, refused)
		r, err := sb.Run(t.Context(), &sandbox.Cmd{Args: []string{"true"}, Init: true})
		require.NoError(t, err)
		require.Equal(t, r.Applied, seen)
	})
}

// A leaf that was made for a command that is refused goes.
func TestRequireWithLimits(t *testing.T) {
	testenv.Root(t)
	leaks(t)
	refused := errors.New("no")
	sb := box(t, sandbox.Options{Security: sandbox.Security{Require: func(a *sandbox.Applied) error {
		require.Contains(t, a.Cgroup, "memory")
		return refused
	}}})
	for range 3 {
		_, err := sb.Run(t.Context(), &sandbox.Cmd{Args: []string{"true"}, Limits: sandbox.Limits{Memory: 64 << 20, PIDs: 4}})
		require.ErrorIs(t, err, refused)
	}
}
