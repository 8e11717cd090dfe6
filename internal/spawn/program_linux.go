package spawn

import (
	"fmt"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Ref names the result of one system call of a Program; as an argument of
// a later call it stands for that result.
type Ref int

// NoRef is the Ref of nothing.
const NoRef Ref = -1

// A Label is a place in a Program that a call can lead to.
type Label int

// Two places that need no Mark.
const (
	Next Label = -1 - iota // the call that follows
	Stop                   // the end: the program fails with this call's result
)

// A Program is a list of system calls for a child to run. Build one inside
// the function given to Start or Run; it is used once.
type Program struct {
	entries []entry
	steps   []step
	jumps   [][3]Label // of each entry: where neg, zero and pos lead
	labels  []int      // the entry that a Label stands before
	chunks  [][]uint64 // memory that entries refer to by address; never moved
	pinned  [][]byte   // the same of others
	free    []byte     // what is left of the last chunk
	header  *header

	setup    *Setup   // of Start: it ends in Exec; nil: of Run
	born     bool     // the first child is born in the namespaces of setup, and becomes the command
	apart    bool     // the child has a copy of the embedder's memory, and this program is in shared memory
	copied   bool     // descriptors are copied with the whole table, not fetched one by one
	self     any      // the embedder's pidfd, in the child's table
	sock     any      // the child's end of the thread's socket, which takes descriptors back
	guard    Ref      // the guard's socket, with Setup.Guard
	thread   int      // the thread that makes the child
	parent   uintptr  // the address of a robust futex that it holds
	dumpable int      // the embedder's own PR_GET_DUMPABLE
	home     int      // the PID namespace to come back to, when the first child is born in the init's; -1: it is not
	nested   []*int32 // the pids of nested children, written by the kernel
	messages int      // how many the program sends if nothing goes wrong

	atExec     Ref // the call before the exec: has run if that was come to; NoRef without one
	attempts   []attempt
	beforeReap func(pid int) error
	afterExec  func(first func()) // adds what the command's parent does once it runs
	results    []int
	err        error
}

// A memory is what programs are written into, one after the other.
type memory struct {
	entries []entry
	steps   []step
	jumps   [][3]Label
	chunk   []uint64
}

// Room for most programs: what is longer grows out of it.
const (
	usualEntries = 192
	usualBytes   = 16 << 10
)

var memories = sync.Pool{New: func() any {
	return &memory{make([]entry, 0, usualEntries), make([]step, 0, usualEntries), make([][3]Label, 0, usualEntries), make([]uint64, usualBytes/8)}
}}

// borrow gives p memory that others had before. It is given back when all
// children of p have ended or exec'ed.
func (p *Program) borrow() (giveBack func()) {
	m := memories.Get().(*memory)
	clear(m.chunk)
	p.entries, p.steps, p.jumps = m.entries[:0], m.steps[:0], m.jumps[:0]
	p.addChunk(m.chunk)
	return func() {
		p.entries, p.chunks, p.free = nil, nil, nil
		memories.Put(m)
	}
}

func (p *Program) addChunk(chunk []uint64) {
	p.chunks = append(p.chunks, chunk)
	p.free = unsafe.Slice((*byte)(unsafe.Pointer(&chunk[0])), len(chunk)*8)
}

// step says what an entry does, for errors.
type step struct{ op, path string }

// Do adds a call that must succeed. op and path say what it does, for errors:
// they should name the man page's verb and the object. Arguments are integers,
// a Ref, or a string (passed as the address of a NUL-terminated copy).
func (p *Program) Do(op, path string, nr uintptr, args ...any) Ref {
	return p.add(step{op, path}, [3]Label{Stop, Next, Next}, nr, args)
}

// Try adds a call whose failure does not matter.
func (p *Program) Try(op, path string, nr uintptr, args ...any) Ref {
	return p.add(step{op, path}, [3]Label{Next, Next, Next}, nr, args)
}

// Zero adds a call that must return 0.
func (p *Program) Zero(op, path string, nr uintptr, args ...any) Ref {
	return p.add(step{op, path}, [3]Label{Stop, Next, Stop}, nr, args)
}

// Branch says where the program goes on after the call that r names, by the
// sign of its result.
func (p *Program) Branch(r Ref, neg, zero, pos Label) {
	if !p.valid(r) {
		return
	}
	p.jumps[r] = [3]Label{neg, zero, pos}
}

// Label makes a place to be set by Mark.
func (p *Program) Label() Label {
	p.labels = append(p.labels, -1)
	return Label(len(p.labels) - 1)
}

// Mark puts l before the next call that is added.
func (p *Program) Mark(l Label) {
	if l < 0 || int(l) >= len(p.labels) || p.labels[l] >= 0 {
		p.misuse("Mark of label %d", l)
		return
	}
	p.labels[l] = len(p.entries)
}

// Result is what the call that r names returned, a negated errno if it failed.
// It is valid after the program ended.
func (p *Program) Result(r Ref) int {
	if r < 0 || int(r) >= len(p.results) {
		return uncalled
	}
	return p.results[r]
}

func (p *Program) add(s step, jumps [3]Label, nr uintptr, args []any) Ref {
	if h := hook.Load(); h != nil {
		h.before(p)
	}
	return p.append(s, jumps, nr, args)
}

func (p *Program) append(s step, jumps [3]Label, nr uintptr, args []any) Ref {
	e := entry{nr: nr, ret: notRun}
	if len(args) > len(e.args) {
		p.misuse("%q has %d arguments", s.op, len(args))
		args = nil
	}
	for i, a := range args {
		v, ref := p.arg(a)
		e.args[i] = v
		if ref {
			e.mask |= 1 << i
		}
	}
	if p.apart && len(p.entries) == cap(p.entries) {
		p.fail(fmt.Errorf("syscall program of more than %d calls: %w", len(p.entries), unix.E2BIG))
		return Ref(len(p.entries) - 1)
	}
	p.entries = append(p.entries, e)
	p.steps = append(p.steps, s)
	p.jumps = append(p.jumps, jumps)
	return Ref(len(p.entries) - 1)
}

// notRun is the result of a call that the program did not come to.
const notRun = ^uintptr(0) - 4096

func (p *Program) arg(a any) (v uintptr, ref bool) {
	switch a := a.(type) {
	case int:
		return uintptr(a), false
	case uintptr:
		return a, false
	case Ref:
		if !p.valid(a) {
			return 0, false
		}
		return uintptr(a), true
	case string:
		return p.String(a), false
	}
	p.misuse("argument of type %T", a)
	return 0, false
}

// valid says whether r names a call that has been added: a later one has no
// result yet when it is used.
func (p *Program) valid(r Ref) bool {
	if r < 0 || int(r) >= len(p.entries) {
		p.misuse("no call has Ref %d", r)
		return false
	}
	return true
}

// misuse notes a mistake of the program's author.
func (p *Program) misuse(format string, args ...any) {
	p.fail(fmt.Errorf("BUG(sandbox): syscall program: "+format, args...))
}

func (p *Program) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

// alloc returns zeroed memory that stays where it is for as long as p lives,
// aligned to 8 bytes, and its address.
func (p *Program) alloc(n int) ([]byte, uintptr) {
	n = (n + 7) &^ 7
	if n > len(p.free) {
		if p.apart {
			p.fail(fmt.Errorf("syscall program with more than %d bytes of arguments: %w", apartSize, unix.E2BIG))
		}
		p.addChunk(make([]uint64, max(usualBytes, n)/8))
	}
	b := p.free[:n:n]
	p.free = p.free[n:]
	return b, uintptr(unsafe.Pointer(unsafe.SliceData(b)))
}

// String copies s into the program's memory, NUL-terminated.
func (p *Program) String(s string) uintptr {
	if strings.IndexByte(s, 0) >= 0 {
		p.fail(fmt.Errorf("%q: NUL byte: %w", s, unix.EINVAL))
	}
	b, addr := p.alloc(len(s) + 1)
	copy(b, s)
	return addr
}

// Bytes copies b into the program's memory.
func (p *Program) Bytes(b []byte) uintptr {
	m, addr := p.alloc(max(len(b), 1))
	copy(m, b)
	return addr
}

// Pinned is the address of b itself, which must not be changed before the program has ended.
func (p *Program) Pinned(b []byte) uintptr {
	p.pinned = append(p.pinned, b)
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))
}

// Words puts 64-bit words into the program's memory: a struct of the kernel's.
func (p *Program) Words(w ...uintptr) uintptr {
	b, addr := p.alloc(8 * len(w))
	for i, v := range w {
		*(*uintptr)(unsafe.Pointer(&b[8*i])) = v
	}
	return addr
}

// Strings puts a NULL-terminated array of strings into the program's memory,
// as execve(2) takes it.
func (p *Program) Strings(ss []string) uintptr {
	w := make([]uintptr, len(ss)+1)
	for i, s := range ss {
		w[i] = p.String(s)
	}
	return p.Words(w...)
}

// link turns labels and Refs into distances and addresses.
func (p *Program) link() {
	last := len(p.entries) - 1
	for i := range p.entries {
		e := &p.entries[i]
		for a := range e.args {
			if e.mask&(1<<a) != 0 {
				e.args[a] = uintptr(unsafe.Pointer(&p.entries[e.args[a]].ret))
			}
		}
		e.neg, e.zero, e.pos = p.distance(i, 0), p.distance(i, 1), p.distance(i, 2)
	}
	if op := p.steps[last].op; op != execOp && op != exitOp {
		p.misuse("it ends in %q", op)
	}
	if (p.setup != nil) != (p.atExec != NoRef) {
		p.misuse("Exec is for Start, and Start for Exec")
	}
	p.header.first = uintptr(unsafe.Pointer(&p.entries[0]))
}

func (p *Program) distance(from, sign int) int32 {
	switch l := p.jumps[from][sign]; l {
	case Stop:
		return 0
	case Next:
		return entrySize
	default:
		to := -1
		if l >= 0 && int(l) < len(p.labels) {
			to = p.labels[l]
		}
		if to < 0 || to >= len(p.entries) {
			p.misuse("the label after %q leads nowhere", p.steps[from].op)
		}
		return int32(to-from) * entrySize
	}
}

// PathOf is the path that the step of r is about.
func (p *Program) PathOf(r Ref) string {
	if !p.valid(r) {
		return ""
	}
	return p.steps[r].path
}
