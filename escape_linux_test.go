package sandbox_test

import (
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
		for _, v := range escape.Vectors {
			t.Run(v.Name, func(t *testing.T) {
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
				}
				if v.Control == escape.Unfiltered {
					require.NotEqual(t, v.Want, v.Bare, "the filter is no guard")
				}
				if got, ok := v.Try(t); ok {
					reaches := v.Reaches
					if reaches == "" {
						reaches = "ok"
					}
					require.True(t, escape.Answers(reaches, got), "the control: %s, not %s", got, reaches)
				}
			})
		}
		require.GreaterOrEqual(t, len(escape.Vectors), 80)
	})
}
