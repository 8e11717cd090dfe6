//go:build linux

package seccomp

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// noCalls are constants of golang.org/x/sys that are not a call's number.
var noCalls = []string{"SYS_ARCH_SPECIFIC_SYSCALL", "SYS_SYSCALL_MASK"}

// TestNumbers: numbers.txt is what golang.org/x/sys of go.mod says. With SANDBOX_UPDATE=1 it is written.
func TestNumbers(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "unix", "zsysnum_linux_*.go"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	numbers := map[string]map[string]string{} // by name and GOARCH
	for _, file := range files {
		goarch := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "zsysnum_linux_"), ".go")
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			if slices.Contains(noCalls, spec.Names[0].Name) {
				return true
			}
			name := strings.ToLower(strings.TrimPrefix(spec.Names[0].Name, "SYS_"))
			if numbers[name] == nil {
				numbers[name] = map[string]string{}
			}
			numbers[name][goarch] = spec.Values[0].(*ast.BasicLit).Value
			return true
		})
	}
	var want strings.Builder
	fmt.Fprintf(&want, "# System calls by name: their numbers on %s; - is none.\n", strings.Join(columns, ", "))
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		want.WriteString(name)
		for _, goarch := range columns {
			nr := numbers[name][goarch]
			if nr == "" {
				nr = "-"
			}
			want.WriteString(" " + nr)
		}
		want.WriteByte('\n')
	}
	if os.Getenv("SANDBOX_UPDATE") == "1" {
		require.NoError(t, os.WriteFile("numbers.txt", []byte(want.String()), 0o644))
	}
	require.True(t, want.String() == numbersText, "numbers.txt is not golang.org/x/sys's: SANDBOX_UPDATE=1 go test -run TestNumbers ./internal/seccomp")
}
