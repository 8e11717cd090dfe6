//go:build linux

package spawn

import (
	"os"
	"regexp"
	"strconv"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// The assembly has the offsets of the Go structs, and clone3(2) the size of its own.
func TestLayout(t *testing.T) {
	var h header
	var e entry
	want := map[string]uintptr{
		"H_ALL": unsafe.Offsetof(h.all), "H_OLD": unsafe.Offsetof(h.old),
		"H_FIRST": unsafe.Offsetof(h.first), "H_STOP": unsafe.Offsetof(h.stop),
		"E_NR": unsafe.Offsetof(e.nr), "E_ARG": unsafe.Offsetof(e.args), "E_RET": unsafe.Offsetof(e.ret),
		"E_OUT": unsafe.Offsetof(e.out), "E_MASK": unsafe.Offsetof(e.mask),
		"E_NEG": unsafe.Offsetof(e.neg), "E_ZERO": unsafe.Offsetof(e.zero), "E_POS": unsafe.Offsetof(e.pos),
	}
	for _, name := range []string{"clone_amd64.s", "clone_arm64.s"} {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		got := map[string]uintptr{}
		for _, m := range regexp.MustCompile(`(?m)^#define\s+([HE]_[A-Z]+)\s+(\d+)\s*$`).FindAllStringSubmatch(string(text), -1) {
			n, err := strconv.Atoi(m[2])
			require.NoError(t, err)
			got[m[1]] = uintptr(n)
		}
		require.Equal(t, want, got, name)
	}
	require.Zero(t, unsafe.Offsetof(h.args))
	require.EqualValues(t, 88, unsafe.Sizeof(h.args), "CLONE_ARGS_SIZE_VER2")
}
