//go:build linux

package store

import (
	"fmt"
	"testing"
)

// BenchmarkRecord is what a sandbox pays for being recoverable. On tmpfs, where records normally are.
func BenchmarkRecord(b *testing.B) {
	for _, place := range []string{"/dev/shm", ""} {
		b.Run("in="+place, func(b *testing.B) {
			s := openBench(b, place)
			b.ReportAllocs()
			for b.Loop() {
				e, err := s.Create(Record{Block: FirstID, Cgroup: "/sandbox/x", Upper: "/var/lib/sandbox/tmp/x"})
				if err != nil {
					b.Fatal(err)
				}
				if err := e.Remove(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkUpdate(b *testing.B) {
	s := openBench(b, "/dev/shm")
	e, err := s.Create(Record{})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Remove()
	for b.Loop() {
		if err := e.Update(Record{Cgroup: "/sandbox/x"}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBlock(b *testing.B) {
	s := openBench(b, "/dev/shm")
	b.Run("held", func(b *testing.B) {
		for b.Loop() {
			k, err := s.Block(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			k.Release()
		}
	})
	b.Run("new", func(b *testing.B) {
		for b.Loop() {
			n, err := s.claim(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			if err := unlink(s.claimPath(n)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkOpenClose(b *testing.B) {
	h := testHost(b, "/dev/shm")
	dir := b.TempDir()
	for b.Loop() {
		s, err := h.open(dir)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkList(b *testing.B) {
	for _, n := range []int{1, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := openBench(b, "/dev/shm")
			for range n {
				e, err := s.Create(Record{Block: FirstID, Cgroup: "/sandbox/x", Upper: "/var/lib/sandbox/tmp/x"})
				if err != nil {
					b.Fatal(err)
				}
				defer e.Remove()
			}
			for b.Loop() {
				if l, err := s.List(); len(l) != n || err != nil {
					b.Fatal(len(l), err)
				}
			}
		})
	}
}

func openBench(b *testing.B, place string) *Store {
	b.Helper()
	s, err := testHost(b, place).open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}
