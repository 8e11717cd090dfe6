//go:build linux

package spawn

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/seed-5a9fb6e0/sandbox/internal/testenv"
)

// Each round runs the same static program by os/exec and by programs, one after the other, so that a noisy machine
// is noisy for all of them. "x-osexec" is how many times os/exec's time a way takes.
func BenchmarkStart(b *testing.B) {
	argv := []string{testenv.C(b, exitSource), "exit", "0"}
	ctx := context.Background()
	user, err := newUserNS(ctx)
	if err != nil {
		b.Fatal(err)
	}
	defer user.Close()
	by := func(build func(*Program)) func() error {
		return func() error {
			p, err := Start(ctx, Setup{Files: 3}, build)
			if err != nil {
				return err
			}
			return p.end()
		}
	}
	ways := []struct {
		name string
		run  func() error
	}{
		{"osexec", func() error { return exec.Command(argv[0], argv[1:]...).Run() }},
		{"plain", by(plain(argv...))},
		{"nested", by(nested(argv...))},
		{"world", by(worldCommand(user, argv...))},
		{"init", func() error {
			p, err := behindInit(ctx, user, argv...)
			if err != nil {
				return err
			}
			return p.end()
		}},
		{"pid1", by(asPID1(user, argv...))},
	}
	total := make([]time.Duration, len(ways))
	n := 0
	for b.Loop() {
		n++
		for i, w := range ways {
			start := time.Now()
			if err := w.run(); err != nil {
				b.Fatal(w.name, err)
			}
			total[i] += time.Since(start)
		}
	}
	for i, w := range ways {
		b.ReportMetric(float64(total[i].Microseconds())/float64(n), w.name+"-us")
		if i > 0 {
			b.ReportMetric(float64(total[i])/float64(total[0]), w.name+"-x-osexec")
		}
	}
	b.ReportMetric(0, "ns/op")
}
