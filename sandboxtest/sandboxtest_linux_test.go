package sandboxtest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-5a9fb6e0/sandbox"
	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
	"github.com/seed-5a9fb6e0/sandbox/rootfs"
	"github.com/seed-5a9fb6e0/sandbox/sandboxtest"
)

func TestMain(m *testing.M) {
	exampleDir = filepath.Join(os.TempDir(), fmt.Sprintf("sandboxtest-example-%d", os.Getpid()))
	testenv.Main(m, testenv.Options{Release: func() {
		if err := rootfs.Remove(context.Background(), exampleDir); err != nil {
			panic(err)
		}
		spawn.Release()
	}})
}

// A test of one's own tool, as root and as an ordinary user.
func Example() {
	testTool := func(t *testing.T) {
		sb := sandboxtest.New(t, sandbox.Options{Hostname: "fixture"})
		if got := sandboxtest.Output(t, sb, sandbox.Command("hostname")); strings.TrimSpace(got) != "fixture" {
			t.Errorf("hostname: %q", got)
		}
	}
	_ = testTool // go test calls it
	// Output:
}

// A test of a client against a server in a sandbox: no port of the host's is used, and nobody sleeps.
func ExampleStart() {
	st := exampleStore()
	defer st.Close()
	testClient := func(t testing.TB) {
		sb := sandboxtest.New(t, sandbox.Options{Store: st})
		server := sandbox.Command("sh", "-c", "cd /tmp; echo hello >index.html; exec busybox httpd -f -p 8080")
		server.Init = true // SIGTERM ends it, though it has no handler
		sandboxtest.Start(t, sb, server, sandboxtest.Listening("tcp", ":8080"))
		client := http.Client{Transport: &http.Transport{DialContext: sb.Dial}}
		defer client.CloseIdleConnections()
		resp, err := client.Get("http://localhost:8080/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		fmt.Print(resp.Status, " ", string(body), err, "\n")
	}
	asTest(testClient) // go test does
	// Output:
	// 200 OK hello
	// <nil>
}

// exampleStore keeps the records of examples out of the default store.
func exampleStore() *sandbox.Store {
	st, err := sandbox.Open(filepath.Join(exampleDir, "store"))
	if err != nil {
		panic(err)
	}
	return st
}

// exampleDir is made and removed by TestMain.
var exampleDir string

// asTest runs a test in an example.
func asTest(f func(t testing.TB)) {
	if r := (recording{}).runIn(context.Background(), nil, f); r.failed {
		fmt.Print(r.log())
	}
}

// The sandbox is built, runs, and is closed with its test.
func TestNew(t *testing.T) {
	testenv.RootAndUser(t, func(t *testing.T) {
		st, err := sandbox.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		var sb *sandbox.Sandbox
		t.Run("inner", func(t *testing.T) {
			sb = sandboxtest.New(t, sandbox.Options{Store: st, Hostname: "fixture"})
			if got := sandboxtest.Output(t, sb, sandbox.Command("hostname")); got != "fixture\n" {
				t.Errorf("hostname: %q", got)
			}
		})
		if err := sb.Prepare(t.Context()); err == nil {
			t.Error("the sandbox outlived its test")
		}
	})
}
