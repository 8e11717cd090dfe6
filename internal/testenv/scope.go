//go:build unix

package testenv

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// markEnv marks, in the environment, what descends from a test process: its value names the process.
const markEnv = "SANDBOX_TESTENV"

// A scope is what has to be known of the machine to tell our things from those of others. It is fixed before the tests.
type scope struct {
	options   Options
	mark      string
	nested    bool            // started by a test of another test process, which looks after the machine
	lock      *os.File        // shared with the other test runs; nil when nested
	processes map[procID]bool // those that were there
	hostNS    map[string]bool // "net:[4026531840]": the namespaces that were there
	slices    map[string]bool // the top-level cgroups that were there, others' to fill
	cgroups   []string        // our own cgroup's directories, below which everything new is ours
}

func newScope(o Options) (*scope, error) {
	s := &scope{options: o, mark: os.Getenv(markEnv)}
	if s.options.settle == 0 {
		s.options.settle = settleTime
	}
	s.nested = s.mark != ""
	if !s.nested {
		s.mark = fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixNano())
		if err := os.Setenv(markEnv, s.mark); err != nil {
			return nil, err
		}
		var err error
		if s.lock, err = lockShared(); err != nil {
			return nil, err
		}
	}
	if err := startPoller(); err != nil {
		return nil, err
	}
	all, err := readProcesses()
	if err != nil {
		return nil, err
	}
	s.processes, s.hostNS = map[procID]bool{}, map[string]bool{}
	for _, p := range all {
		s.processes[p.procID] = true
		for _, ns := range p.namespaces() {
			s.hostNS[ns] = true
		}
	}
	return s, s.readOwnCgroups()
}

// startPoller makes the runtime open its epoll and event descriptors now, so that they are in every snapshot.
func startPoller() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	return errors.Join(r.Close(), w.Close())
}

// readOwnCgroups notes which cgroups are there at the top, and which are this process's own.
func (s *scope) readOwnCgroups() error {
	s.slices = map[string]bool{}
	trees, err := cgroupTrees()
	if err != nil {
		return err
	}
	for _, tree := range trees {
		entries, err := os.ReadDir(tree.dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.IsDir() {
				s.slices[tree.dir+"/"+e.Name()] = true
			}
		}
		if own := strings.TrimSuffix(tree.own, "/"); own != "" {
			s.cgroups = append(s.cgroups, tree.dir+own+"/")
		}
	}
	return nil
}
