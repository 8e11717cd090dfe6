package imagetest

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// The credentials that RegistryAuth wants. The hash is bcrypt, which is what the registry understands.
const (
	User         = "alice"
	Password     = "s3cret"
	passwordHash = "$2b$04$PsVEO1yMxcjsws8g7jzXNuyqgwhEXoi9W3MT2F9ycXyaXBNfITr2W"
)

// Registry starts Debian's docker-registry on loopback, with its files in a directory of the test, and returns
// "127.0.0.1:port". It ends with the test, or with the test's process. It needs the package docker-registry.
func Registry(t testing.TB) string {
	t.Helper()
	addr, _ := start(t, "")
	return addr
}

// RegistryDir is Registry, and tells where its files are, to be damaged.
func RegistryDir(t testing.TB) (addr, dir string) {
	t.Helper()
	return start(t, "")
}

// RegistryAuth is Registry with basic authentication as User with Password.
func RegistryAuth(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(file, []byte(User+":"+passwordHash+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	addr, _ := start(t, fmt.Sprintf("auth:\n  htpasswd:\n    realm: test\n    path: %q\n", file))
	return addr
}

const config = `version: 0.1
log:
  level: error
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: %q
  delete:
    enabled: true
http:
  addr: %s
%s`

func start(t testing.TB, extra string) (addr, dir string) {
	t.Helper()
	bin, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Fatalf("the package docker-registry is needed: %v", err)
	}
	dir = t.TempDir()
	// Another process can take the port between the question and the registry's answer: then try once more.
	for range 3 {
		addr = freeAddr(t)
		if err = serve(t, bin, fmt.Sprintf(config, dir, addr, extra), addr); err == nil {
			return addr, dir
		}
	}
	t.Fatal(err)
	return "", ""
}

func serve(t testing.TB, bin, conf, addr string) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return err
	}
	var log bytes.Buffer
	cmd := exec.Command(bin, "serve", file)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, done := make(chan error, 1), make(chan error, 1)
	// Ends when the registry does, which Cleanup sees to. PDEATHSIG comes when the thread that started it ends
	// (prctl(2)), so this one stays with it to the end.
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			done <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	stop := func() {
		cmd.Process.Kill() // an error says that it has ended already
		<-done
	}
	if err := ready(addr, done); err != nil {
		stop()
		return fmt.Errorf("docker-registry: %w\n%s", err, log.String())
	}
	t.Cleanup(stop)
	return nil
}

// ready waits for an answer of any kind.
func ready(addr string, done chan error) error {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for end := time.Now().Add(30 * time.Second); ; {
		resp, err := client.Get("http://" + addr + "/v2/")
		if err == nil {
			resp.Body.Close()
			return nil
		}
		select {
		case err := <-done:
			done <- err
			return fmt.Errorf("ended: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			return err
		}
	}
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
