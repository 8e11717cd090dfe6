//go:build linux

package sandbox_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

func TestMain(m *testing.M) {
	if play, ok := roles[os.Getenv(roleEnv)]; ok {
		os.Exit(play())
	}
	testenv.Main(m, testenv.Options{Release: func() { releaseExamples(); spawn.Release() }})
}

// leaks fails the test when it leaves anything behind. The spawning threads,
// which live as long as a program, are let go before both looks.
func leaks(t testing.TB) {
	spawn.Release()
	testenv.Leaks(t)
	t.Cleanup(spawn.Release)
}

// store opens a store for one test.
func store(t testing.TB) *sandbox.Store {
	st, err := sandbox.Open(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	return st
}

// box returns a sandbox for one test, in a store of its own unless o has one.
func box(t testing.TB, o sandbox.Options) *sandbox.Sandbox {
	if o.Store == nil {
		o.Store = store(t)
	}
	sb := sandbox.New(o)
	t.Cleanup(func() { require.NoError(t, sb.Close()) })
	return sb
}

// exampleStore is where examples keep their records, so that they leave nothing
// in the default store.
func exampleStore() *sandbox.Store {
	st, err := sandbox.Open(filepath.Join(os.TempDir(), fmt.Sprintf("sandbox-example-%d", os.Getpid())))
	if err != nil {
		panic(err)
	}
	examples = append(examples, st)
	return st
}

var examples []*sandbox.Store

// releaseExamples closes and removes the stores of the examples.
func releaseExamples() {
	for _, st := range examples {
		st.Close()
		os.RemoveAll(filepath.Join(os.TempDir(), fmt.Sprintf("sandbox-example-%d", os.Getpid())))
	}
}
