//go:build unix

package testenv

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// settleTime is how long the kernel gets to finish a teardown that it does later: a veth is gone some 30 ms after the
// last descriptor of its namespace, a cgroup after the RCU grace period of its last task.
const settleTime = 5 * time.Second

// A probe lists one kind of thing: its identity and, for the message, what it is.
type probe struct {
	kind string
	// own: what it finds can only be of this process and its descendants. Other kinds may be another program's.
	own  bool
	list func(*scope) (map[string]string, error)
}

var probes = []probe{
	{"goroutine", true, goroutines},
	{"descriptor", true, descriptors},
	{"namespace of a thread", true, threadNamespaces},
	{"process", true, ownProcesses},
	{"orphan process in new namespaces", false, orphans},
	{"mount", false, mounts},
	{"cgroup", false, cgroups},
	{"network link", false, links},
	{"nft table", false, tables},
	{"file", false, files},
}

// A leak is a thing that was not there before.
type leak struct {
	kind, what string
	own        bool
}

func (l leak) String() string { return l.kind + ": " + l.what }

// A snapshot is what every probe found, by kind.
type snapshot map[string]map[string]string

// take lists the things of every kind; with ownOnly, those which can only be ours.
func (s *scope) take(ownOnly bool) (snapshot, error) {
	shot := snapshot{}
	for _, p := range probes {
		if ownOnly && !p.own {
			continue
		}
		found, err := p.list(s)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", p.kind, err)
		}
		shot[p.kind] = found
	}
	return shot, nil
}

// since returns what is in now and was not in before, in the order of the probes.
func (before snapshot) since(now snapshot) []leak {
	var leaks []leak
	for _, p := range probes {
		for _, key := range slices.Sorted(maps.Keys(now[p.kind])) {
			if _, was := before[p.kind][key]; !was {
				leaks = append(leaks, leak{p.kind, now[p.kind][key], p.own})
			}
		}
	}
	return leaks
}

// settle compares until nothing new is left or the time is over, and returns what is left.
func (s *scope) settle(before snapshot, ownOnly bool, limit time.Duration) []leak {
	end := time.Now().Add(limit)
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		now, err := s.take(ownOnly)
		if err != nil {
			return []leak{{"leak check", err.Error(), true}}
		}
		leaks := before.since(now)
		if len(leaks) == 0 || time.Now().After(end) {
			return leaks
		}
		time.Sleep(wait)
	}
}

// report says what was left.
func report(leaks []leak) string {
	var b strings.Builder
	for _, l := range leaks {
		fmt.Fprintf(&b, "\t%s\n", strings.ReplaceAll(l.String(), "\n", "\n\t\t"))
	}
	return b.String()
}

// machineWide reports whether one of the leaks could be another program's.
func machineWide(leaks []leak) bool {
	return slices.ContainsFunc(leaks, func(l leak) bool { return !l.own })
}
