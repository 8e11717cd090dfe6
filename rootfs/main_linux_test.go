package rootfs

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

func TestMain(m *testing.M) {
	if err := warmUp(); err != nil {
		fmt.Fprintln(os.Stderr, "warm-up of internal/spawn:", err)
		os.Exit(1)
	}
	testenv.Main(m, testenv.Options{})
}

// warmUp makes the threads of internal/spawn, which live as long as the process, before the leak check counts: these
// tests run one program after the other, of which one may be just ending.
func warmUp() error {
	var group sync.WaitGroup
	errs := make(chan error, 4)
	for range cap(errs) {
		group.Go(func() {
			_, _, err := spawn.Run(context.Background(), func(p *spawn.Program) {
				p.Do("ppoll", "", unix.SYS_PPOLL, 0, 0, p.Words(0, 20_000_000), 0, 8) // 20 ms: none ends before all are there
			})
			errs <- err
		})
	}
	group.Wait()
	for range cap(errs) {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}
