package sandbox_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The public packages, by directory.
var publicPackages = []string{".", "image", "rootfs", "cgroup", "netns", "sandboxtest"}

const (
	maxParams      = 4
	maxFileLines   = 600
	maxReadmeLines = 150
)

// parseDir parses the Go files of a package, tests or the others.
func parseDir(t *testing.T, dir string, tests bool) (*token.FileSet, []*ast.File) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") != tests {
			continue
		}
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return fset, files
}

func TestPackageDocs(t *testing.T) {
	for _, dir := range publicPackages {
		t.Run(dir, func(t *testing.T) {
			_, files := parseDir(t, dir, false)
			if len(files) == 0 {
				t.Fatalf("no package in %q", dir)
			}
			docs := 0
			for _, f := range files {
				if f.Doc != nil {
					docs++
				}
			}
			if docs != 1 {
				t.Errorf("%d files have a package comment, want one: doc.go", docs)
			}
		})
	}
}

func TestPackageExamples(t *testing.T) {
	for _, dir := range publicPackages {
		_, files := parseDir(t, dir, true)
		if !hasExample(files) {
			t.Errorf("package in %q has no Example: a program of ten lines that shows what it is for", dir)
		}
	}
}

func hasExample(files []*ast.File) bool {
	for _, f := range files {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Example") {
				return true
			}
		}
	}
	return false
}

// Every exported identifier, field and interface method of a public package has a comment, and no exported function has
// too many parameters or a bool one (a call with `true` says nothing to its reader).
func TestExported(t *testing.T) {
	for _, dir := range publicPackages {
		fset, files := parseDir(t, dir, false)
		for _, complaint := range exportedComplaints(fset, files) {
			t.Error(complaint)
		}
	}
}

// The rules themselves: each kind of undocumented thing is found.
func TestExportedRules(t *testing.T) {
	const src = `package p
// T is.
type T struct {
	A int // yes
	B, C int
	d int
	E struct {
		F int
	} // yes
}
type U int
func (T) M() {}
func (u) N(bool) {}
// F is.
func F(a, b, c int, d, e string) {}
// G is.
func G(on bool) {}
// I is.
type I interface { X(yes bool) }
// Group.
const (
	K = 1
	L = 2
)
var V = 1
type u int
`
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "p.go", src, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(exportedComplaints(fset, []*ast.File{f}), "\n")
	for _, want := range []string{"T.B", "T.C", "T.E.F", "type U", "T.M", "func F has 5 parameters", "func G has a bool", "I.X has no", "I.X has a bool", "V has no"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	for _, not := range []string{"T.A", "T.d", "T.E has", " N", "K ", "L ", "type u"} {
		if strings.Contains(got, not) {
			t.Errorf("%q is wrong in\n%s", not, got)
		}
	}
}

// complaints collects what is wrong with the exported names of a package.
type complaints struct {
	fset *token.FileSet
	all  []string
}

func exportedComplaints(fset *token.FileSet, files []*ast.File) []string {
	c := &complaints{fset: fset}
	for _, f := range files {
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				c.function(d)
			case *ast.GenDecl:
				for _, s := range d.Specs {
					c.spec(d, s)
				}
			}
		}
	}
	return c.all
}

func (c *complaints) add(at ast.Node, format string, args ...any) {
	c.all = append(c.all, fmt.Sprintf("%s: %s", c.fset.Position(at.Pos()), fmt.Sprintf(format, args...)))
}

func (c *complaints) function(d *ast.FuncDecl) {
	name := d.Name.Name
	if d.Recv != nil {
		recv := receiver(d.Recv.List[0].Type)
		if !ast.IsExported(recv) {
			return
		}
		name = recv + "." + name
	}
	if !d.Name.IsExported() {
		return
	}
	if d.Doc == nil {
		c.add(d, "func %s has no comment", name)
	}
	c.params("func "+name, d.Type)
}

// receiver is the name of a receiver's type: T of *T and T[K].
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

func (c *complaints) params(name string, f *ast.FuncType) {
	if n := f.Params.NumFields(); n > maxParams {
		c.add(f, "%s has %d parameters, more than %d: take a struct", name, n, maxParams)
	}
	for _, p := range f.Params.List {
		if id, ok := p.Type.(*ast.Ident); ok && id.Name == "bool" {
			c.add(f, "%s has a bool parameter: take a named type or a field of a struct", name)
		}
	}
}

func (c *complaints) spec(d *ast.GenDecl, s ast.Spec) {
	switch s := s.(type) {
	case *ast.TypeSpec:
		if !s.Name.IsExported() {
			return
		}
		if d.Doc == nil && s.Doc == nil && s.Comment == nil {
			c.add(s, "type %s has no comment", s.Name.Name)
		}
		c.members(s.Name.Name, s.Type)
	case *ast.ValueSpec:
		for _, n := range s.Names {
			if n.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
				c.add(n, "%s has no comment", n.Name)
			}
		}
	}
}

// members checks the fields of a struct and the methods of an interface.
func (c *complaints) members(of string, e ast.Expr) {
	var list *ast.FieldList
	switch e := e.(type) {
	case *ast.StructType:
		list = e.Fields
	case *ast.InterfaceType:
		list = e.Methods
	default:
		return
	}
	for _, f := range list.List {
		for _, n := range f.Names { // an embedded one is documented where it is declared
			if !n.IsExported() {
				continue
			}
			name := of + "." + n.Name
			if f.Doc == nil && f.Comment == nil {
				c.add(n, "%s has no comment", name)
			}
			if fn, ok := f.Type.(*ast.FuncType); ok {
				if _, isMethod := e.(*ast.InterfaceType); isMethod {
					c.params(name, fn)
				}
			}
			c.members(name, f.Type)
		}
	}
}

// A path of the machine on which a file was written. (Put together, so that this file passes.)
var strangePath = regexp.MustCompile(`(^|[^\w.)$}])/wo` + `rk/|\.\./sha` + `red`)

// Rules for every file of the repository.
func TestFiles(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == ".git" {
			return filepath.SkipDir
		}
		if !d.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.IndexByte(text, 0) >= 0 {
			return nil // not a text
		}
		for i, line := range bytes.Split(text, []byte("\n")) {
			if m := strangePath.Find(line); m != nil {
				t.Errorf("%s:%d: mentions %q, a path of one machine", path, i+1, m)
			}
		}
		if lines := bytes.Count(text, []byte("\n")); isSource(path) && lines > maxFileLines {
			t.Errorf("%s has %d lines, more than %d: split it where a reader would", path, lines, maxFileLines)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func isSource(path string) bool {
	if strings.Contains(path, "testdata"+string(filepath.Separator)) {
		return false
	}
	switch filepath.Ext(path) {
	case ".go", ".s", ".c", ".h":
		return true
	}
	return false
}

func TestReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(text, []byte("\n")); lines > maxReadmeLines {
		t.Errorf("README.md has %d lines, more than %d: the rest belongs into the package documentation", lines, maxReadmeLines)
	}
}
