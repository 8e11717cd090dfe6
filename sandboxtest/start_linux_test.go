package sandboxtest_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
	"github.com/seed-5a9fb6e0/sandbox/sandboxtest"
)

func sh(script string) sandbox.Cmd { return sandbox.Cmd{Args: []string{"sh", "-c", script}} }

// leaks fails the test when it leaves anything behind, but for the spawning threads.
func leaks(t testing.TB) {
	spawn.Release()
	testenv.Leaks(t)
	t.Cleanup(spawn.Release)
}

func store(t testing.TB) *sandbox.Store {
	st, err := sandbox.Open(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	return st
}

const polite = "trap 'echo bye; exit 7' TERM; echo up; echo why >&2; while :; do sleep 0.01; done"

// A test that passes says nothing; one that fails has the output, also that of the end, by which the command has ended.
func TestStartLog(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := sandboxtest.New(t, sandbox.Options{Store: store(t)})
		for _, fail := range []bool{false, true} {
			var p *sandbox.Process
			c := sh(polite)
			r := record(t, func(t testing.TB) {
				p = sandboxtest.Start(t, sb, &c, sandboxtest.Line("^up$"), sandboxtest.Line("why"))
				t.Cleanup(func() { // runs before the command is stopped
					if fail {
						t.Error("broken")
					}
				})
			})
			require.Equal(t, sh(polite), c, "it is not modified")
			res, err := p.Wait(t.Context())
			require.NoError(t, err)
			require.Equal(t, "exit status 7", res.String())
			require.Equal(t, fail, r.failed)
			if fail {
				require.Equal(t, fmt.Sprintf("broken\n%q: exit status 7, output:\n\t| up\n\t| why\n\t| bye\n", c.Args), r.log())
			} else {
				require.Empty(t, r.log())
			}
		}
	})
}

// A command that ends too early is told at once, whatever probe is waiting; one that can't start, too.
func TestStartEndsEarly(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := sandboxtest.New(t, sandbox.Options{Store: store(t)})
		for name, p := range map[string]sandboxtest.Probe{
			"line": sandboxtest.Line("never"), "tcp": sandboxtest.Listening("tcp", ":80"),
			"exec": sandboxtest.Exec(sandbox.Command("sleep", "1000")), "http": sandboxtest.HTTP("http://:80"),
		} {
			for script, says := range map[string]string{"exit 3": "exit status 3", "exit 0": "exit status 0", "kill -9 $$; sleep 1": "signal: killed"} {
				c := sh("echo no config; sleep 0.02; " + script)
				c.Init = true
				began := time.Now()
				r := record(t, func(t testing.TB) {
					sandboxtest.Start(t, sb, &c, p)
					t.Log("it is ready")
				})
				require.Equal(t, fmt.Sprintf("%q: ended before it was ready: %s\noutput:\n\t| no config\n", c.Args, says), r.log(), name)
				require.True(t, r.failed, name)
				require.Less(t, time.Since(began), time.Second, name)
			}
		}
		r := record(t, func(t testing.TB) { sandboxtest.Start(t, sb, sandbox.Command("no-such-program")) })
		require.True(t, r.failed)
		require.Contains(t, r.log(), "no-such-program")
		r = record(t, func(t testing.TB) { sandboxtest.Start(t, sb, nil) })
		require.Equal(t, "sandboxtest: Start without a Cmd\n", r.log())
	})
}

// The wait ends before go test does, and a command that is deaf to its end is killed before that.
func TestStartDeadline(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := sandboxtest.New(t, sandbox.Options{Store: store(t)})
		c := sh("trap '' TERM; echo deaf; while :; do sleep 0.01; done")
		began := time.Now()
		r := recording{deadline: 300 * time.Millisecond}.run(t, func(t testing.TB) { sandboxtest.Start(t, sb, &c, sandboxtest.Line("never")) })
		require.Regexp(t, `not ready: Line\("never"\): no such line \(not within 2\d\d\.?\d*ms\)\noutput:\n\t\| deaf\n$`, r.log())
		require.Less(t, time.Since(began), 3*time.Second)

		var p *sandbox.Process
		r = recording{deadline: 200 * time.Millisecond}.run(t, func(t testing.TB) {
			p = sandboxtest.Start(t, sb, &c, sandboxtest.Line("deaf"))
			t.Fail()
		})
		require.Contains(t, r.log(), ": killed, output:\n\t| deaf\n")
		res, err := p.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, sandbox.Killed, res.Status)
	})
}

// The caller's Writers get all, in one order where they are one; a Reader still gives; pipes are the caller's.
func TestStartStreams(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := sandboxtest.New(t, sandbox.Options{Store: store(t)})
		const script = "for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done; cat; read x; echo end; exec sleep 1000"
		const both = "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\nout 4\nerr 4\nout 5\nerr 5\n"
		const out, err = "out 1\nout 2\nout 3\nout 4\nout 5\n", "err 1\nerr 2\nerr 3\nerr 4\nerr 5\n"
		tests := map[string]struct {
			streams             func(c *sandbox.Cmd, a, b *bytes.Buffer)
			first, second, want string
		}{
			"none":   {func(*sandbox.Cmd, *bytes.Buffer, *bytes.Buffer) {}, "", "", both + "in\nend\n"},
			"one":    {func(c *sandbox.Cmd, a, _ *bytes.Buffer) { c.Stdout, c.Stderr = a, a }, both + "in\nend\n", "", both + "in\nend\n"},
			"two":    {func(c *sandbox.Cmd, a, b *bytes.Buffer) { c.Stdout, c.Stderr = a, b }, out + "in\nend\n", err, ""},
			"stdout": {func(c *sandbox.Cmd, a, _ *bytes.Buffer) { c.Stdout = a }, out + "in\nend\n", "", ""},
		}
		for name, tt := range tests {
			t.Run(name, func(t *testing.T) {
				var a, b bytes.Buffer
				c := sh(script)
				c.Init, c.Stdin = true, strings.NewReader("in\n")
				tt.streams(&c, &a, &b)
				r := record(t, func(t testing.TB) {
					sandboxtest.Start(t, sb, &c, sandboxtest.Line("^end$"))
					t.Fail()
				})
				require.Equal(t, tt.first, a.String())
				require.Equal(t, tt.second, b.String())
				_, logged, _ := strings.Cut(r.log(), "output:\n")
				logged = strings.ReplaceAll(logged, "\t| ", "")
				if tt.want != "" {
					require.Equal(t, tt.want, logged)
				}
				require.Len(t, logged, len(both+"in\nend\n"))
			})
		}
		t.Run("pipes", func(t *testing.T) {
			c := sh(script)
			c.Init, c.Pipes = true, sandbox.PipeStdin|sandbox.PipeStdout
			r := record(t, func(t testing.TB) {
				p := sandboxtest.Start(t, sb, &c, sandboxtest.Line("err 5"))
				_, e := io.WriteString(p.Stdin, "typed\n")
				require.NoError(t, e)
				require.NoError(t, p.Stdin.Close())
				got := make([]byte, len(out+"typed\nend\n"))
				_, e = io.ReadFull(p.Stdout, got)
				require.NoError(t, e)
				require.Equal(t, out+"typed\nend\n", string(got))
				require.NoError(t, p.Stdout.Close())
				t.Fail()
			})
			require.NotContains(t, r.log(), "out 1")
			require.Contains(t, r.log(), "\t| err 5\n")
		})
		t.Run("file", func(t *testing.T) {
			f, e := os.CreateTemp(t.TempDir(), "log")
			require.NoError(t, e)
			defer f.Close()
			c := sh(script)
			c.Init, c.Stdout, c.Stderr = true, f, f
			record(t, func(t testing.TB) { sandboxtest.Start(t, sb, &c, sandboxtest.Line("^end$")) })
			require.Equal(t, both+"end\n", string(read(t, f.Name())))
		})
	})
}

// Of a flood the end is kept, a line is found that is long gone, and nothing of it looks like the test's own words.
func TestStartFlood(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		sb := sandboxtest.New(t, sandbox.Options{Store: store(t)})
		c := sh("echo ready; yes 123456789 | head -n 100000; printf '\\033[2J\\026--- PASS: TestX (0.00s)\\r\\n--- FAIL: TestX (0.00s)\\nlast'; touch /tmp/full; exec sleep 1000")
		c.Init = true
		r := record(t, func(t testing.TB) {
			sandboxtest.Start(t, sb, &c, sandboxtest.File("/tmp/full"), sandboxtest.Line("^ready$"))
			t.Fail()
		})
		const tail = "\t| �[2J�--- PASS: TestX (0.00s)\n\t| --- FAIL: TestX (0.00s)\n\t| last\n"
		require.True(t, strings.HasSuffix(r.log(), "123456789\n"+tail), "%q", r.log()[len(r.log())-200:])
		require.Regexp(t, `terminated, output, without the 934\d\d\d bytes before:\n`, r.log())
		require.Less(t, len(r.log()), 90<<10)
		for line := range strings.Lines(r.log()[strings.IndexByte(r.log(), '\n')+1:]) {
			require.True(t, strings.HasPrefix(line, "\t| "), "%q", line)
		}
	})
}

// Several commands in one sandbox, tests in parallel: each has its own log, and all end before their sandbox does.
func TestStartParallel(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		st := store(t)
		sb := sandboxtest.New(t, sandbox.Options{Store: st})
		for i := range 4 {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				r := record(t, func(t testing.TB) {
					own := sandboxtest.New(t, sandbox.Options{Store: st})
					var all sync.WaitGroup
					for _, in := range []*sandbox.Sandbox{sb, own, own} {
						all.Go(func() {
							c := sh(fmt.Sprintf("trap 'exit 7' TERM; echo I am %d >&2; while :; do sleep 0.01; done", i))
							sandboxtest.Start(t, in, &c, sandboxtest.Line(fmt.Sprintf("I am %d", i)))
						})
					}
					all.Wait()
					t.Fail()
				})
				require.Equal(t, 3, strings.Count(r.log(), fmt.Sprintf("exit status 7, output:\n\t| I am %d\n", i)), r.log())
				require.Equal(t, 6, strings.Count(r.log(), "\n"), r.log())
			})
		}
	})
}

// A sandbox that the test has closed itself is no fault of the command's, nor is one that has ended; one whose Writer fails is.
func TestStartEnd(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		st := store(t)
		c := sh("echo up; exec sleep 1000")
		r := record(t, func(t testing.TB) {
			sb := sandboxtest.New(t, sandbox.Options{Store: st})
			sandboxtest.Start(t, sb, &c, sandboxtest.Line("up"))
			require.NoError(t, sb.Close())
		})
		require.False(t, r.failed, r.log())

		sb := sandboxtest.New(t, sandbox.Options{Store: st})
		c.Init = true
		r = record(t, func(t testing.TB) {
			p := sandboxtest.Start(t, sb, &c, sandboxtest.Line("up"))
			require.NoError(t, p.Signal(syscall.SIGHUP))
			<-p.Done()
			sandboxtest.Start(t, sb, sandbox.Command("true")) // no probe: started is all
		})
		require.False(t, r.failed, r.log())

		c.Stdout = failing{}
		r = record(t, func(t testing.TB) { sandboxtest.Start(t, sb, &c, sandboxtest.Line("up")) })
		require.True(t, r.failed)
		require.Contains(t, r.log(), "disk full")
	})
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, fmt.Errorf("disk full") }

// Without what the sandbox needs the test is skipped, and told what to do; any other error fails it.
func TestNewOrSkip(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		st := store(t)
		limited := sandbox.Options{Store: st, Limits: sandbox.Limits{Memory: 64 << 20}}
		var unsupported error // as an ordinary user, unless he has a cgroup
		for _, f := range sandbox.Check(t.Context()).Features {
			if f.Name == "Limits.Memory" {
				unsupported = f.Err
			}
		}
		ran := false
		r := record(t, func(t testing.TB) {
			sb := sandboxtest.NewOrSkip(t, limited)
			require.NoError(t, exited(t, sb, sandbox.Command("true")))
			ran = true
		})
		require.False(t, r.failed, r.log())
		require.Equal(t, unsupported != nil, r.skipped)
		require.Equal(t, unsupported == nil, ran)
		if unsupported != nil {
			require.Regexp(t, `cgroup.*\(run as root, or have a cgroup delegated`, r.log())
		}
		if os.Getuid() == 0 {
			require.True(t, ran)
		}

		limited.Limits.Memory = -1
		r = record(t, func(t testing.TB) { sandboxtest.NewOrSkip(t, limited) })
		require.True(t, r.failed)
		require.False(t, r.skipped)
		require.Contains(t, r.log(), "Options.Limits.Memory")
	})
}
