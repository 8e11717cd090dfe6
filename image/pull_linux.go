package image

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Pull makes an image available: it resolves ref (see ParseReference) as o.Policy says, fetches what the store lacks, and
// unpacks layers, several at once, while they arrive. Size and digest of everything are verified; what is wrong is a
// *VerifyError and leaves nothing. Layers that are complete stay when a Pull fails, so that the next one goes on there.
//
// A layer is fetched and unpacked once however many Pulls want it, in this process and others. Each waits as long as its
// own ctx; when the one that does the work is cancelled, another takes over.
//
// As root, owners, modes, times, extended attributes and devices are the archive's. An ordinary user owns all files
// himself, and what else he may not make is listed in Layer.Omitted.
func (s *Store) Pull(ctx context.Context, ref string, o PullOptions) (*Image, error) {
	img, err := s.pull(ctx, ref, o)
	if err != nil {
		return nil, &Error{Op: "pull", Object: shorten(ref), Err: err}
	}
	return img, nil
}

func (s *Store) pull(ctx context.Context, ref string, o PullOptions) (*Image, error) {
	want, perr := parsePlatform(o.Platform)
	r, rerr := parseReference(ref)
	if err := errors.Join(rerr, perr, o.check()); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if o.Policy == PullNever || (o.Policy == PullMissing && r.kind == kindRegistry) {
		img, err := s.cached(r.String(), want)
		if err == nil || o.Policy == PullNever || !errors.Is(err, fs.ErrNotExist) {
			return img, err
		}
	}
	src, err := s.source(ctx, r, o)
	if err != nil {
		return nil, err
	}
	img, err := s.fetch(ctx, src, job{ref: r.String(), want: want, opts: o, source: r.String()})
	return img, errors.Join(err, src.close())
}

// cached looks in the store only.
func (s *Store) cached(ref string, want v1.Platform) (*Image, error) {
	r, err := s.readRecord(s.recordPath(ref))
	if err != nil {
		return nil, err
	}
	i, ok := r.find(platformString(want))
	if !ok {
		return nil, &PlatformError{Want: platformString(want), Have: r.platforms()}
	}
	return s.load(ref, i)
}

// job is what a Pull wants.
type job struct {
	ref  string
	want v1.Platform
	opts PullOptions

	source string // of the compressed layers
}

// pinned is the source of exactly that image.
func (j job) pinned(target v1.Hash) string {
	r, err := parseReference(j.source)
	if err != nil || r.kind != kindRegistry {
		return j.source
	}
	if _, ok := r.ref.(name.Digest); ok {
		return j.source
	}
	return r.ref.Context().Name() + "@" + target.String()
}

// keeper is a source whose compressed layers the store keeps: files that may be moved away.
type keeper interface{ keep() map[v1.Hash]string }

// fetch gets everything, brings it to the disk, and then says that the image is there.
func (s *Store) fetch(ctx context.Context, src source, j job) (*Image, error) {
	r, err := resolve(ctx, src, j.want)
	if err != nil {
		return nil, err
	}
	w, err := s.newWorkspace()
	if err != nil {
		return nil, err
	}
	p := &puller{store: s, src: src, w: w, job: j, r: r}
	img, err := s.fetchInto(ctx, p)
	p.release()
	return img, errors.Join(err, w.close())
}

func (s *Store) fetchInto(ctx context.Context, p *puller) (*Image, error) {
	layers, err := p.layers(ctx)
	if err != nil {
		return nil, err
	}
	unlock, err := s.lockBlobs(ctx, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer unlock()
	for _, d := range p.r.docs {
		if err := p.w.writeFile(s.blobPath(d.digest), d.data); err != nil {
			return nil, err
		}
	}
	if err := p.w.writeFile(s.blobPath(p.r.manifest.Config.Digest), p.r.raw); err != nil {
		return nil, err
	}
	if k, ok := p.src.(keeper); ok {
		for h, path := range k.keep() {
			if err := s.keepBlob(h, path); err != nil {
				return nil, err
			}
		}
	}
	if err := s.settle(layers); err != nil {
		return nil, err
	}
	last := p.r.docs[len(p.r.docs)-1]
	rec := recordImage{Platform: platformString(p.r.platform), Asked: platformString(p.job.want), Manifest: last.digest, Target: p.r.target, Source: p.job.pinned(p.r.target)}
	if err := s.writeRecord(ctx, p.w, p.job.ref, rec); err != nil {
		return nil, err
	}
	return newImage(p.job.ref, rec, p.r.config, layers), nil
}

// puller fetches the layers of one image.
type puller struct {
	store    *Store
	src      source
	w        *workspace
	job      job
	r        *resolved
	progress progress
	ready    []chan struct{} // closed when the layer is in found
	found    []stored

	mu     sync.Mutex
	leases []func() // of found, until a reference leads there; guarded by mu
}

func (p *puller) hold(release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leases = append(p.leases, release)
}

func (p *puller) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.leases {
		r()
	}
}

// layers fetches and unpacks all layers, bottom first.
func (p *puller) layers(ctx context.Context) ([]stored, error) {
	n := len(p.r.chain)
	p.found = make([]stored, n)
	p.ready = make([]chan struct{}, n)
	for i := range n {
		p.ready[i] = make(chan struct{})
	}
	p.progress.begin(p.job.opts.Progress, p.r.manifest.Layers)
	// Lower layers start first: one that waits for those below never keeps them from starting.
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(MaxParallel)
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			l, err := p.layer(ctx, i)
			if err != nil {
				return err
			}
			p.found[i] = l
			p.progress.ready(i)
			close(p.ready[i])
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	// The loop stops early only when a layer failed or the caller's context ended.
	for _, r := range p.ready {
		select {
		case <-r:
		default:
			return nil, context.Cause(ctx)
		}
	}
	return p.found, nil
}

// layer finds or makes layer i. It holds two locks: the chain's, all the time, and the diff id's, until it turns out that
// the tree depends on the layers below. Only the first is held while waiting for those, and those wait for
// nothing above them, so that no two processes ever wait for each other.
func (p *puller) layer(ctx context.Context, i int) (stored, error) {
	s, diff, chain := p.store, p.r.config.RootFS.DiffIDs[i], p.r.chain[i]
	if l, ok, err := p.have(ctx, i); ok || err != nil {
		return l, err
	}
	unlockChain, err := s.lock(ctx, "layer-"+chain.Hex)
	if err != nil {
		return stored{}, err
	}
	defer unlockChain()
	unlockDiff := func() {}
	if diff != chain {
		if unlockDiff, err = s.lock(ctx, "layer-"+diff.Hex); err != nil {
			return stored{}, err
		}
		defer unlockDiff()
	}
	if l, ok, err := p.have(ctx, i); ok || err != nil {
		return l, err
	}
	below := func(ctx context.Context) ([]string, error) {
		unlockDiff()
		return p.below(ctx, i)
	}
	return p.unpack(ctx, i, below)
}

// have looks for layer i in the store, and keeps it there.
func (p *puller) have(ctx context.Context, i int) (stored, bool, error) {
	l, ok, err := p.store.findLayer(i, p.r.config.RootFS.DiffIDs[i], p.r.chain[i])
	if !ok || err != nil {
		return l, ok, err
	}
	release, ok, err := p.store.lease(ctx, l.dir)
	if ok && err == nil {
		p.hold(release)
		p.progress.cached(i)
	}
	return l, ok, err
}

// below waits for the layers under layer i, and gives their trees topmost first.
func (p *puller) below(ctx context.Context, i int) ([]string, error) {
	for _, r := range p.ready[:i] {
		select {
		case <-r:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	visible := visibleLayers(p.found[:i])
	dirs := make([]string, 0, len(visible))
	for k := len(visible) - 1; k >= 0; k-- {
		dirs = append(dirs, visible[k].fs())
	}
	return dirs, nil
}

func (p *puller) unpack(ctx context.Context, i int, below func(context.Context) ([]string, error)) (stored, error) {
	desc, diff := p.r.manifest.Layers[i], p.r.config.RootFS.DiffIDs[i]
	tree := filepath.Join(p.w.path, p.r.chain[i].Hex)
	trash := tree + ".trash"
	if err := mkdirs(tree, trash); err != nil {
		return stored{}, err
	}
	blob, err := p.src.blob(ctx, desc)
	if err != nil {
		return stored{}, err
	}
	defer blob.Close()
	limits := p.job.opts.Limits.withDefaults()
	st, err := newStream(ctx, p.progress.reader(i, blob), desc, diff, limits.Bytes)
	if err != nil {
		return stored{}, err
	}
	out, err := unpack(ctx, filepath.Join(tree, "fs"), st, unpackOptions{limits: limits, below: below, trash: trash})
	if err := st.finish(err); err != nil {
		return stored{}, err
	}
	key := diff
	if out.Dependent {
		key = p.r.chain[i]
	}
	l, release, err := p.store.publish(p.w, tree, key, newLayerMeta(diff, p.store.boot, out))
	if err == nil {
		p.hold(release)
	}
	return l, err
}
