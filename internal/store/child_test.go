//go:build linux

package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Tests of several programs run this binary again in one of these roles.
const roleEnv, dirEnv = "STORE_TEST_ROLE", "STORE_TEST_DIR"

func TestMain(m *testing.M) {
	roles := map[string]func(h host, dir string) error{
		"hold": hold, "names": raceNames, "blocks": raceBlocks, "recover": recoverAll, "churn": churn, "user": asUser, "full": fullDisk,
	}
	role, ok := roles[os.Getenv(roleEnv)]
	if !ok {
		os.Exit(m.Run())
	}
	// No role outlives a test that panicked.
	go func() { _, _ = os.NewFile(3, "life").Read(make([]byte, 1)); os.Exit(2) }()
	dir := os.Getenv(dirEnv)
	if err := role(hostIn(dir), filepath.Join(dir, "store")); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// child is a running role.
type child struct {
	*exec.Cmd
	out  *bufio.Reader
	gate *os.File // closing it lets the role start
}

func newChild(t *testing.T, role, dir string) *child {
	t.Helper()
	c := &child{Cmd: exec.Command("/proc/self/exe")}
	c.Env = []string{roleEnv + "=" + role, dirEnv + "=" + dir}
	c.Stderr = os.Stderr
	return c
}

func (c *child) start(t *testing.T) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	c.Stdin, c.gate = r, w
	life, hold, err := os.Pipe()
	require.NoError(t, err)
	c.ExtraFiles = []*os.File{life}
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	c.out = bufio.NewReader(out)
	require.NoError(t, c.Start())
	require.NoError(t, errors.Join(r.Close(), life.Close()))
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait(); _ = w.Close(); _ = hold.Close() })
}

func startChild(t *testing.T, role, dir string) *child {
	t.Helper()
	c := newChild(t, role, dir)
	c.start(t)
	return c
}

// line returns the next line the child prints.
func (c *child) line(t *testing.T) string {
	t.Helper()
	s, err := c.out.ReadString('\n')
	require.NoError(t, err)
	require.False(t, strings.HasPrefix(s, "error:"), s)
	return strings.TrimSpace(s)
}

// finish opens the gate and returns all that the child prints until its successful end.
func (c *child) finish(t *testing.T) []string {
	t.Helper()
	_ = c.gate.Close()
	var lines []string
	for {
		s, err := c.out.ReadString('\n')
		if err != nil {
			break
		}
		lines = append(lines, strings.TrimSpace(s))
	}
	require.NoError(t, c.Wait(), lines)
	return lines
}

// kill ends the child by SIGKILL and returns when it is gone.
func (c *child) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, c.Process.Kill())
	_ = c.Wait()
}

// waitGate returns when the parent has closed the gate.
func waitGate() { _, _ = bufio.NewReader(os.Stdin).ReadByte() }

// hold makes a sandbox and is then killed.
func hold(h host, dir string) error {
	s, err := h.open(dir)
	if err != nil {
		return err
	}
	r := Record{Name: "held", Upper: "/nowhere"}
	if h.root() {
		b, err := s.Block(context.Background())
		if err != nil {
			return err
		}
		r.Block = b.Base()
	}
	if _, err := s.Create(r); err != nil {
		return err
	}
	fmt.Println(s.Owner(), r.Block)
	waitGate()
	return nil
}

// raceNames creates 500 names and prints those it got.
func raceNames(h host, dir string) error {
	s, err := h.open(dir)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	waitGate()
	for i := range 500 {
		e, err := s.Create(Record{Name: fmt.Sprintf("n%d", i)})
		if err == nil {
			fmt.Println(e.Record().Name)
		} else if !errors.Is(err, fs.ErrExist) || errors.Is(err, ErrDead) {
			return err
		}
	}
	fmt.Println("done")
	select {} // the parent kills us when the others are through as well
}

// raceBlocks claims blocks until none is left and prints them.
func raceBlocks(h host, dir string) error {
	h.firstID, h.finalID = FirstID, FirstID+100*BlockSize-1
	s, err := h.open(dir + os.Getenv("STORE_TEST_N"))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	waitGate()
	for {
		b, err := s.Block(context.Background())
		if errors.Is(err, ErrExhausted) {
			fmt.Println("exhausted")
			break
		}
		if err != nil {
			return err
		}
		fmt.Println(b.Base())
	}
	select {} // the parent kills us: as long as one lives its blocks are taken
}

// recoverAll recovers and notes each cleaning by a file that must not be there yet.
func recoverAll(h host, dir string) error {
	s, err := h.open(dir)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	waitGate()
	err = s.Recover(context.Background(), func(_ context.Context, r Record) error {
		mark := filepath.Join(dir, "cleaned-"+r.Name)
		d, err := createNew(mark)
		if err != nil {
			return fail("mark", mark, err)
		}
		return d.close()
	})
	l, lerr := s.List()
	fmt.Println("left", len(l))
	return errors.Join(err, lerr, s.Close())
}

// churn uses all of a store again and again until it is killed.
func churn(h host, dir string) error {
	for i := 0; ; i++ {
		s, err := h.open(dir)
		if err != nil {
			return err
		}
		if i == 0 {
			fmt.Println("ready")
		}
		for range 3 {
			if err := churnOnce(s); err != nil {
				return err
			}
		}
		if i%2 == 0 {
			err = s.Recover(context.Background(), func(context.Context, Record) error { return nil })
		}
		if err := errors.Join(err, s.Close()); err != nil {
			return err
		}
	}
}

func churnOnce(s *Store) error {
	r := Record{Labels: map[string]string{"a": "b"}}
	if s.ids != "" {
		b, err := s.Block(context.Background())
		if err != nil {
			return err
		}
		defer b.Release()
		r.Block = b.Base()
	}
	e, err := s.Create(r)
	if err != nil {
		return err
	}
	r.Cgroup = "/x"
	return errors.Join(e.Update(r), e.Remove())
}
