package seccomp

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestStrictArgued: SECURITY.md has an argument for each call that strict leaves open, and for no other.
func TestStrictArgued(t *testing.T) {
	p, err := Strict(caps)
	require.NoError(t, err)
	var open []string
	for _, machine := range machines() {
		for name := range machine[0].numbers {
			if slices.ContainsFunc(p.rules[name], func(r rule) bool { return r.action == allow }) {
				open = append(open, name)
			}
		}
	}
	slices.Sort(open)
	text, err := os.ReadFile("../../SECURITY.md")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(text), "| system calls | why |")
	require.True(t, found)
	var argued []string
	for line := range strings.Lines(table) {
		if cells := strings.Split(line, "|"); len(cells) == 4 && !strings.Contains(cells[1], "--") {
			require.NotEmpty(t, strings.TrimSpace(cells[2]))
			argued = append(argued, strings.Fields(cells[1])...)
		}
	}
	slices.Sort(argued)
	require.Equal(t, slices.Compact(open), argued)
}
