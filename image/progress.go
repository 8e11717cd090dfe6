package image

import (
	"io"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// progress adds reports up and makes them, one at a time.
type progress struct {
	mu     sync.Mutex // held during the callback
	f      func(Progress)
	layers []v1.Descriptor
	done   []int64  // guarded by mu
	had    []bool   // which layers were in the store, guarded by mu
	all    Progress // totals, guarded by mu
}

// progressStep is how many bytes of a layer make a report.
const progressStep = 256 << 10

func (p *progress) begin(f func(Progress), layers []v1.Descriptor) {
	p.f, p.layers, p.done = f, layers, make([]int64, len(layers))
	p.had = make([]bool, len(layers))
	p.all.Layers = len(layers)
	for _, d := range layers {
		p.all.TotalSize += d.Size
	}
}

// set notes how far layer i is, and reports it.
func (p *progress) set(i int, done int64, change func(*Progress)) {
	if p.f == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all.TotalDone += done - p.done[i]
	p.done[i] = done
	report := p.all
	report.Layer, report.Done, report.Size = p.layers[i].Digest.String(), done, p.layers[i].Size
	if change != nil {
		change(&report)
		p.all.LayersReady = report.LayersReady
	}
	p.f(report)
}

func (p *progress) cached(i int) {
	p.set(i, p.layers[i].Size, func(r *Progress) { p.had[i], r.Cached = true, true })
}

func (p *progress) ready(i int) {
	p.set(i, p.layers[i].Size, func(r *Progress) {
		r.LayersReady++
		r.Cached = p.had[i]
	})
}

// reader reports what is read through it.
func (p *progress) reader(i int, r io.Reader) io.Reader {
	if p.f == nil {
		return r
	}
	return &progressReader{p: p, i: i, r: r}
}

type progressReader struct {
	p              *progress
	i              int
	r              io.Reader
	done, reported int64
}

func (r *progressReader) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	r.done += int64(n)
	if r.done-r.reported >= progressStep {
		r.reported = r.done
		r.p.set(r.i, r.done, nil)
	}
	return n, err
}
