package sandbox_test

import (
	"cmp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/escape"
)

// Every way out is closed under the default and the strict filter, and without one but where the filter is the guard;
// its control shows that it is one.
func TestEscapes(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		type place struct {
			name string
			sb   *sandbox.Sandbox
			bare bool
			host bool
		}
		var places []place
		for _, p := range []place{{name: ""}, {name: "strict"}, {name: "off", bare: true}} {
			security := sandbox.Security{Seccomp: p.name}
			places = append(places,
				place{p.name + " over the host's userland", box(t, sandbox.Options{Security: security}), p.bare, true},
				place{p.name + " over a rootfs", box(t, sandbox.Options{Rootfs: skeleton(t), Security: security}), p.bare, false})
		}
		var same []string
		for _, v := range escape.Vectors {
			t.Run(v.Name, func(t *testing.T) {
				answers := map[bool]string{} // with and without a filter
				for _, p := range places {
					if v.Host && !p.host {
						continue
					}
					want := v.Want
					if p.bare && v.Bare != "" {
						want = v.Bare
					}
					got := inside(t, p.sb, v.Args...)
					require.True(t, escape.Answers(want, got), "%s: %s, not %s", p.name, got, want)
					answers[p.bare] = got
				}
				control, ok := answers[true], v.Control == escape.Unfiltered
				if !ok {
					if control, ok = v.Try(t); ok {
						require.True(t, escape.Answers(cmp.Or(v.Reaches, "ok"), control), "the control: %s, not %s", control, v.Reaches)
					}
				}
				if ok && control == answers[false] {
					same = append(same, v.Name)
				}
			})
		}
		// This machine may lack what they are about.
		t.Logf("%d of %d controls came to the same as the sandbox: %q", len(same), len(escape.Vectors), same)
		require.GreaterOrEqual(t, len(escape.Vectors), 80)
	})
}

// What Nesting opens of the ways out, and nothing else: user namespaces, and what is without masks.
var nestingOpens = map[string]string{
	"clone user": "ok", "clone3 user": "ok", "clone3 user and mount": "ok", "unshare user": "ok", "clone3 mount": "EPERM",
	"keys": "EEXIST", "own msg_max": "ok", "own shmmax": "ok",
}

func TestEscapesNesting(t *testing.T) {
	asRootAndUser(t, func(t *testing.T) {
		leaks(t)
		security := sandbox.Security{Nesting: true}
		host, rootfs := box(t, sandbox.Options{Security: security}), box(t, sandbox.Options{Rootfs: skeleton(t), Security: security})
		for _, v := range escape.Vectors {
			want := v.Want
			if opened, ok := nestingOpens[v.Name]; ok {
				want += "|" + opened
			}
			got := inside(t, host, v.Args...)
			require.True(t, escape.Answers(want, got), "%s: %s, not %s", v.Name, got, want)
			if !v.Host {
				got = inside(t, rootfs, v.Args...)
				require.True(t, escape.Answers(want, got), "%s over a rootfs: %s, not %s", v.Name, got, want)
			}
		}
	})
}
