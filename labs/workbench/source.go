package workbench

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Function is one that a learner writes.
type Function struct {
	Name  string // "queue.take" for a method
	Task  int
	Hints []string // from where to look to what to write; only in mini-k8s
	Done  bool     // it calls no TODO
	File  string   // the name of its file

	decl *ast.FuncDecl
}

// code is a Go package as text, with the functions of a lab found in it.
type code struct {
	lab       string
	files     map[string]*file // by name
	functions []Function       // by task, then in the order of the files
}

type file struct {
	text []byte
	set  *token.FileSet
	tree *ast.File
}

// readCode reads the package in dir, without its tests.
func readCode(dir, lab string) (*code, error) {
	c := &code{lab: lab, files: map[string]*file{}}
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if err := c.add(filepath.Base(path), text); err != nil {
			return nil, err
		}
	}
	if len(c.files) == 0 {
		return nil, fmt.Errorf("there is no Go code in %s", dir)
	}
	slices.SortStableFunc(c.functions, func(a, b Function) int { return a.Task - b.Task })
	return c, nil
}

func (c *code) add(name string, text []byte) error {
	f, err := parse(name, text)
	if err != nil {
		return err
	}
	c.files[name] = f
	for _, declaration := range f.tree.Decls {
		decl, ok := declaration.(*ast.FuncDecl)
		if !ok || decl.Doc == nil {
			continue
		}
		found := Function{Name: nameOf(decl), File: name, decl: decl}
		for _, line := range decl.Doc.List {
			if task, ok := strings.CutPrefix(line.Text, "//lab:"+c.lab+" "); ok {
				if _, err := fmt.Sscan(task, &found.Task); err != nil {
					return fmt.Errorf("%s: %s: %q names no task", name, found.Name, line.Text)
				}
			}
			if hint, ok := strings.CutPrefix(line.Text, "//lab:hint "); ok {
				found.Hints = append(found.Hints, hint)
			}
		}
		if found.Task > 0 {
			found.Done = !bytes.Contains(f.body(decl), []byte(`lab.TODO("`))
			c.functions = append(c.functions, found)
		}
	}
	return nil
}

func parse(name string, text []byte) (*file, error) {
	f := &file{text: text, set: token.NewFileSet()}
	var err error
	f.tree, err = parser.ParseFile(f.set, name, text, parser.ParseComments)
	return f, err
}

// nameOf returns "queue.take" for the method take of *queue, or the plain name.
func nameOf(decl *ast.FuncDecl) string {
	if decl.Recv == nil {
		return decl.Name.Name
	}
	receiver := decl.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	if generic, ok := receiver.(*ast.IndexExpr); ok {
		receiver = generic.X
	}
	return fmt.Sprint(receiver) + "." + decl.Name.Name
}

func (f *file) offset(at token.Pos) int { return f.set.Position(at).Offset }

// body returns the text of a function from brace to brace.
func (f *file) body(decl *ast.FuncDecl) []byte {
	return f.text[f.offset(decl.Body.Lbrace) : f.offset(decl.Body.Rbrace)+1]
}

func (c *code) function(name string) *Function {
	for i := range c.functions {
		if c.functions[i].Name == name {
			return &c.functions[i]
		}
	}
	return nil
}

// tasks returns the numbers of the lab's tasks.
func (c *code) tasks() []int {
	var numbers []int
	for _, f := range c.functions {
		if !slices.Contains(numbers, f.Task) {
			numbers = append(numbers, f.Task)
		}
	}
	return numbers
}

// untouched reports whether no function has been written yet.
func (c *code) untouched() bool {
	return !slices.ContainsFunc(c.functions, func(f Function) bool { return f.Done })
}

// withBodies returns the text of a file with other bodies in some of its functions, formatted. Imports come and go as
// the bodies need them; those of reference may be added.
func withBodies(f *file, bodies map[*ast.FuncDecl]string, reference *file) ([]byte, error) {
	var out bytes.Buffer
	at := 0
	for _, declaration := range f.tree.Decls { // in the order of the text
		if decl, ok := declaration.(*ast.FuncDecl); ok && bodies[decl] != "" {
			out.Write(f.text[at:f.offset(decl.Body.Lbrace)])
			out.WriteString(bodies[decl])
			at = f.offset(decl.Body.Rbrace) + 1
		}
	}
	out.Write(f.text[at:])
	changed, err := parse(f.tree.Name.Name, out.Bytes())
	if err != nil {
		return nil, err
	}
	return format.Source(changed.withImports(reference))
}

const todoPackage = `"workshop/labs/lab"`

// withImports returns the file's text with exactly the imports that it uses, of its own, of the reference's and of the
// package that has TODO. They stand in the groups of the reference.
func (f *file) withImports(reference *file) []byte {
	used := map[string]bool{"_": true}
	for _, identifier := range f.tree.Unresolved { // names of imports, or of what stands in other files
		used[identifier.Name] = true
	}
	var groups [][]string
	seen := map[string]bool{}
	add := func(in *file, spec *ast.ImportSpec) {
		if seen[spec.Path.Value] || !used[importName(spec)] {
			return
		}
		seen[spec.Path.Value] = true
		start, end := in.offset(spec.Pos()), in.offset(spec.End())
		if spec.Comment != nil {
			end = in.offset(spec.Comment.End())
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], string(in.text[start:end]))
	}
	for i, spec := range reference.tree.Imports {
		line := func(at int) int { return reference.set.Position(reference.tree.Imports[at].Pos()).Line }
		if i == 0 || line(i) > line(i-1)+1 {
			groups = append(groups, nil)
		}
		add(reference, spec)
	}
	groups = append(groups, nil)
	for _, spec := range f.tree.Imports {
		add(f, spec)
	}
	if used["lab"] && !seen[todoPackage] {
		at := slices.IndexFunc(groups, func(group []string) bool {
			return slices.ContainsFunc(group, func(line string) bool { return strings.Contains(line, `"workshop/`) })
		})
		if at < 0 {
			at = len(groups) - 1
		}
		groups[at] = append(groups[at], todoPackage)
	}
	var block strings.Builder
	for _, group := range groups {
		block.WriteString(strings.Join(group, "\n\t") + "\n\n\t")
	}
	head := f.offset(f.tree.Name.End())
	rest := head
	for _, declaration := range f.tree.Decls {
		if imports, ok := declaration.(*ast.GenDecl); ok && imports.Tok == token.IMPORT {
			rest = f.offset(imports.End())
		}
	}
	between := f.text[head:rest] // a comment may stand before the imports
	if first := bytes.Index(between, []byte("import")); first >= 0 {
		between = between[:first]
	}
	text := strings.TrimSpace(block.String())
	if text != "" {
		text = "import (\n\t" + text + "\n)\n"
	}
	return slices.Concat(f.text[:head], between, []byte("\n"+text), f.text[rest:])
}

// importName returns the name by which a file uses an import.
func importName(spec *ast.ImportSpec) string {
	if spec.Name != nil {
		return spec.Name.Name
	}
	path := majorVersion.ReplaceAllString(strings.Trim(spec.Path.Value, `"`), "")
	return path[strings.LastIndex(path, "/")+1:]
}

// majorVersion ends the path of a package that has another name: "math/rand/v2" is rand.
var majorVersion = regexp.MustCompile(`/v\d+$`)

// Tasks returns the names of the functions that a lab asks for, by task.
func Tasks(root string, l Lab) ([][]string, error) {
	reference, err := readCode(filepath.Join(root, l.Source()), l.Number)
	if err != nil {
		return nil, err
	}
	var tasks [][]string
	for _, number := range reference.tasks() {
		var names []string
		for _, f := range reference.functions {
			if f.Task == number {
				names = append(names, f.Name)
			}
		}
		tasks = append(tasks, names)
	}
	return tasks, nil
}
