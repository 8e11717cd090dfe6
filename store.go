package sandbox

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/seed-5a9fb6e0/sandbox/cgroup"
	"github.com/seed-5a9fb6e0/sandbox/image"
	"github.com/seed-5a9fb6e0/sandbox/internal/store"
)

// A Store is a directory that keeps images, and the records of live sandboxes,
// which are on tmpfs. Any number of programs may use one at the same time. All
// methods may be called concurrently.
type Store struct {
	options  storeOptions
	state    *store.Store
	images   *image.Store
	users    *userPool
	base     hostBase
	programs programs

	groupsMu   sync.Mutex
	groups     *cgroup.Tree // nil where this user can have none
	noTree     error        // why
	groupUsers int          // sandboxes that live
}

// A StoreOption says how a program uses a store.
type StoreOption func(*storeOptions)

type storeOptions struct{ cgroupParent string }

// CgroupParent has the cgroups of this program's sandboxes made in a directory of the caller's choice, as docker run
// --cgroup-parent does: a path relative to the root of each hierarchy as it is mounted here, for example
// "machine.slice/tenants", made where it is not there and removed when it is empty; it may have limits of its own. The
// default is that root itself and, for an ordinary user on v2, what is delegated to him. Open refuses a path that is
// absolute or leads elsewhere with fs.ErrInvalid.
func CgroupParent(path string) StoreOption {
	return func(o *storeOptions) { o.cgroupParent = path }
}

// Open opens the store in a directory, which is made if it is not there; ""
// is the default store, /var/lib/sandbox for root, $XDG_DATA_HOME/sandbox or
// ~/.local/share/sandbox for a user. It cleans up after programs that died
// with sandboxes in it (see Recover).
func Open(dir string, options ...StoreOption) (*Store, error) {
	var o storeOptions
	for _, set := range options {
		set(&o)
	}
	s, err := open(dir, o)
	if err != nil {
		return nil, &Error{Op: "open store", Path: dir, Err: err}
	}
	return s, nil
}

func open(dir string, o storeOptions) (*Store, error) {
	state, err := store.Open(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{options: o, state: state, users: newUserPool()}
	if s.images, err = image.Open(state.Dir()); err == nil {
		s.groups, s.noTree = s.openTree()
		if errors.Is(s.noTree, errors.ErrUnsupported) || errors.Is(s.noTree, fs.ErrPermission) {
			s.groups = nil // limits that need it say so
		} else {
			err = s.noTree
		}
	}
	if err == nil {
		err = s.Recover(context.Background())
	}
	if err != nil {
		state.Close()
		return nil, err
	}
	return s, nil
}

// defaultStore is opened by the first sandbox that names no other, and then
// stays for as long as the program.
var defaultStore struct {
	mu sync.Mutex
	s  *Store
}

func (o *Options) store() (*Store, error) {
	if o.Store != nil {
		return o.Store, nil
	}
	d := &defaultStore
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.s == nil {
		s, err := Open("")
		if err != nil {
			return nil, err
		}
		d.s = s
	}
	return d.s, nil
}

// Info is what the store's records say of a live sandbox.
type Info struct {
	Name    string            // unique in the store
	Labels  map[string]string // Options.Labels
	Created time.Time         // when it was built
	// Alive: the program that made it runs. Else Recover removes what is left.
	Alive bool
}

// Sandboxes lists the live sandboxes of all programs that use the store.
// Records that can't be read are left out, and joined in the error.
func (s *Store) Sandboxes(context.Context) ([]Info, error) {
	records, err := s.state.List()
	var all []Info
	for _, r := range records {
		alive, aerr := s.state.Alive(r.Owner)
		err = errors.Join(err, aerr)
		all = append(all, Info{Name: r.Name, Labels: maps.Clone(r.Labels), Created: r.Created, Alive: alive})
	}
	return all, err
}

// Images returns the store's images, to pull, list and remove.
func (s *Store) Images() *image.Store { return s.images }

// Recover removes what programs left in the store and in the kernel that died
// before they closed their sandboxes. (A program that was killed while it started
// commands is dead when those have died, too, some milliseconds later.) What belongs
// to living programs is not touched, nor is a record that can't be read: it is joined in the error.
func (s *Store) Recover(ctx context.Context) error {
	return errors.Join(s.state.Recover(ctx, recoverRecord), s.sweep(ctx), s.sweepVolumes(ctx))
}

// sweep removes upper directories without a record: after a reboot the records,
// which were on tmpfs, are gone; and logs of sandboxes that have no upper directory.
func (s *Store) sweep(ctx context.Context) error {
	dir, err := s.state.Sub(store.Sandboxes)
	if err != nil {
		return err
	}
	// The directories first: a new one's record is there before it.
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		return err
	}
	records, err := s.state.List()
	if err != nil {
		return nil // a record that can't be read may name any of them
	}
	named := map[string]bool{}
	for _, r := range records {
		named[r.Upper] = true
	}
	var errs []error
	for _, e := range entries {
		upper := filepath.Join(dir, e.Name())
		owner, _, _ := strings.Cut(e.Name(), "-")
		if alive, err := s.state.Alive(owner); alive || err != nil || named[upper] {
			continue
		}
		errs = append(errs, removeUpper(ctx, upper))
	}
	return errors.Join(errs...)
}

func recoverRecord(ctx context.Context, r store.Record) error {
	var errs []error
	if r.Cgroup != "" {
		errs = append(errs, cgroup.Recover(ctx, r.Parent, r.Cgroup))
	}
	if r.Upper != "" {
		errs = append(errs, removeUpper(ctx, r.Upper))
	}
	return errors.Join(errs...)
}

// Close ends the use of the store by this program. Its sandboxes must have been
// closed before.
func (s *Store) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var errs []error
	if tree := s.tree(); tree != nil {
		errs = append(errs, tree.Close(ctx))
	}
	s.users.close()
	errs = append(errs, s.base.close(), s.programs.close(), s.state.Close())
	return errors.Join(errs...)
}

// closeTimeout bounds what waits for the kernel while something is closed.
const closeTimeout = 30 * time.Second
