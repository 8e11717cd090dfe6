package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// playTerminal has somebody at the terminal of this program sit at that of a command in a sandbox.
func playTerminal() int {
	if err := atTerminal(os.Getenv(dirEnv), strings.Fields(os.Getenv(argEnv))); err != nil {
		fmt.Println("error:", err)
		return 1
	}
	return 0
}

func atTerminal(dir string, args []string) (err error) {
	st, err := sandbox.Open(dir)
	if err != nil {
		return err
	}
	sb := sandbox.New(sandbox.Options{Store: st})
	defer func() { err = errors.Join(err, sb.Close(), st.Close()) }()
	raw, err := term.MakeRaw(0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, term.Restore(0, raw)) }()
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	if err != nil {
		return err
	}
	c := &sandbox.Cmd{Args: args, Dir: "/tmp", TTY: &sandbox.TTY{Rows: size.Row, Cols: size.Col}, Stdin: os.Stdin, Stdout: os.Stdout}
	p, err := sb.Start(context.Background(), c)
	if err != nil {
		return err
	}
	for {
		select {
		case <-resized:
			if size, err = unix.IoctlGetWinsize(0, unix.TIOCGWINSZ); err == nil {
				_ = p.Resize(size.Row, size.Col) // os.ErrProcessDone: it has ended
			}
		case <-p.Done():
			res, err := p.Wait(context.Background())
			return errors.Join(err, res.Err())
		}
	}
}

// A tmux is a terminal that somebody sits at who can be asked what he sees.
type tmux struct {
	t      testing.TB
	socket string
}

// newTmux runs a shell command in a terminal, which ends with the test.
func newTmux(t testing.TB, command string) *tmux {
	m := &tmux{t, filepath.Join(t.TempDir(), "s")}
	m.do("new-session", "-d", "-x", "80", "-y", "24", command+"; echo ended $?; exec sleep 100000")
	t.Cleanup(func() { m.do("kill-server") })
	return m
}

func (m *tmux) do(args ...string) string {
	m.t.Helper()
	cmd := exec.Command("tmux", append([]string{"-u", "-S", m.socket, "-f", "/dev/null"}, args...)...)
	cmd.Env = append(os.Environ(), "SHELL=/bin/sh", "TERM=xterm", "TMUX=")
	out, err := cmd.CombinedOutput()
	require.NoError(m.t, err, "tmux %v: %s (apt-get install tmux, or bash scripts/deps)", args, out)
	return string(out)
}

// look returns when what is on the screen is as wanted.
func (m *tmux) look(wanted func(screen string) bool) {
	m.t.Helper()
	for end := time.Now().Add(terminalTime); ; time.Sleep(10 * time.Millisecond) {
		screen := m.do("capture-pane", "-p")
		if wanted(screen) {
			return
		}
		if time.Now().After(end) {
			require.FailNow(m.t, "not what was expected", screen)
		}
	}
}

// A full-screen editor in a sandbox looks as it does without one: what is typed, moved to and resized.
func TestTTYEditor(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		leaks(t)
		const editor = "vim.tiny -u NONE -i NONE -N -n text"
		exe, err := os.Executable()
		require.NoError(t, err)
		dir := t.TempDir()
		plain := newTmux(t, fmt.Sprintf("cd '%s' && TERM=xterm %s", dir, editor))
		boxed := newTmux(t, fmt.Sprintf("%s=terminal %s='%s' %s='%s' '%s'", roleEnv, dirEnv, t.TempDir(), argEnv, editor, exe))
		// One thing at a time: what comes together, an Escape and what follows it, is for the editor to take apart.
		for _, step := range []struct {
			do    []string
			shows string
		}{
			{nil, `"text" [New`},
			{[]string{"send-keys", "ifirst line", "Enter", "second"}, "\nsecond\n~"},
			{[]string{"send-keys", "Escape"}, "\nsecond\n~"},
			{[]string{"resize-window", "-x", "50", "-y", "10"}, "\nsecond\n~"},
			{[]string{"send-keys", ":set number", "Enter"}, "1 first line\n      2 second"},
			{[]string{"resize-window", "-x", "100", "-y", "40"}, "1 first line\n      2 second"},
			{[]string{"send-keys", "ggOnew"}, "1 new\n      2 first line"},
			{[]string{"send-keys", "Escape"}, "1 new\n      2 first line"},
			{[]string{"send-keys", ":set nonumber", "Enter"}, "\nfirst line\n"},
			{[]string{"send-keys", ":wq", "Enter"}, "\nended 0\n"},
		} {
			for _, m := range []*tmux{plain, boxed} {
				if step.do != nil {
					m.do(step.do...)
				}
			}
			boxed.look(func(s string) bool {
				// When the editor has ended, what stood there before differs.
				editing := strings.Contains(s, "-- INSERT --")
				same := s == plain.do("capture-pane", "-p") || strings.Contains(step.shows, "ended")
				return strings.Contains("\n"+s, step.shows) && same && (!editing || step.do[1] != "Escape")
			})
		}
	})
}
