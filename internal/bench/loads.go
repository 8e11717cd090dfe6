//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
)

// A row is a table's: what was varied, and the ways measured under it.
type row struct {
	Load string `json:"load"`
	Ways []*way `json:"ways"`
}

// loads makes the tables of what the embedder is laden with.
func (e *env) loads(ctx context.Context, r *report) error {
	if e.config.heap {
		for _, gib := range []int{0, 1, 4} {
			if err := e.withHeap(ctx, r, gib); err != nil {
				return err
			}
		}
	}
	if e.config.fds {
		for _, n := range []int{10, 10_000} {
			if err := e.withFiles(ctx, r, n); err != nil {
				return err
			}
		}
	}
	if e.config.pauses {
		return e.pauses(ctx, r)
	}
	return nil
}

func (e *env) under(ctx context.Context, r *report, load string) error {
	ways, err := e.config.measure(ctx, []subject{e.osExec(), e.warm()})
	r.Loads = append(r.Loads, row{load, ways})
	return err
}

// withHeap measures while the program holds so much memory, every page of it written.
func (e *env) withHeap(ctx context.Context, r *report, gib int) error {
	const page = 4096
	var chunks [][]byte
	for range gib * 16 {
		chunk := make([]byte, 1<<30/16)
		for i := 0; i < len(chunk); i += page {
			chunk[i] = 1
		}
		chunks = append(chunks, chunk)
	}
	runtime.GC()
	err := e.under(ctx, r, fmt.Sprintf("heap %d GiB", gib))
	runtime.KeepAlive(chunks)
	return err
}

// withFiles measures while the program has so many more descriptors.
func (e *env) withFiles(ctx context.Context, r *report, n int) error {
	files := make([]*os.File, 0, n)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	for range n {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	return e.under(ctx, r, fmt.Sprintf("%d descriptors", n))
}
