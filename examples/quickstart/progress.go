package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/seed-5a9fb6e0/sandbox/image"
)

const barWidth = 30

// drawBar shows how far a pull is, where there is a terminal.
func drawBar(p image.Progress) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return
	}
	full := int(barWidth * p.TotalDone / max(p.TotalSize, 1))
	fmt.Fprintf(os.Stderr, "[%-*s] %.1f of %.1f MiB, %d of %d layers\x1b[K\r", barWidth, strings.Repeat("=", full),
		float64(p.TotalDone)/(1<<20), float64(p.TotalSize)/(1<<20), p.LayersReady, p.Layers)
	if p.LayersReady == p.Layers {
		fmt.Fprint(os.Stderr, "\x1b[K") // the line is for what comes next
	}
}
