package workbench

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"go/ast"
	"go/format"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// LabTest is the name of the file that holds a lab's tests, in mini-k8s and in the copies.
const LabTest = "lab_test.go"

// Generate writes the starters and the solutions of all labs, and returns the files that changed.
func Generate(root string) (changed []string, err error) {
	for _, l := range Available() {
		made, err := Generated(root, l)
		if err != nil {
			return changed, err
		}
		for _, path := range slices.Sorted(maps.Keys(made)) {
			target := filepath.Join(root, path)
			if old, err := os.ReadFile(target); err == nil && bytes.Equal(old, made[path]) {
				continue
			}
			if err := errors.Join(os.MkdirAll(filepath.Dir(target), 0o755), os.WriteFile(target, made[path], 0o644)); err != nil {
				return changed, err
			}
			changed = append(changed, path)
		}
		stale, err := stale(root, l, made)
		if err != nil {
			return changed, err
		}
		for _, path := range stale {
			if err := os.Remove(filepath.Join(root, path)); err != nil {
				return changed, err
			}
			changed = append(changed, path)
		}
	}
	return changed, nil
}

// stale returns the Go files of a lab that are not made any more.
func stale(root string, l Lab, made map[string][]byte) ([]string, error) {
	var found []string
	for _, dir := range []string{l.Dir(), l.Solution()} {
		entries, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, entry := range entries {
			if path := dir + "/" + entry.Name(); strings.HasSuffix(path, ".go") && made[path] == nil {
				found = append(found, path)
			}
		}
	}
	return found, nil
}

// Generated returns what a lab's folders hold, by path: the package with stubs, the package as it is, and in both the
// tests.
func Generated(root string, l Lab) (map[string][]byte, error) {
	reference, err := readCode(filepath.Join(root, l.Source()), l.Number)
	if err != nil {
		return nil, err
	}
	made := map[string][]byte{}
	for name := range reference.files {
		if made[l.Solution()+"/"+name], err = reference.solution(name); err != nil {
			return nil, fmt.Errorf("make the solution of lab %s: %s: %w", l.Number, name, err)
		}
		if made[l.Dir()+"/"+name], err = reference.starter(name); err != nil {
			return nil, fmt.Errorf("make the starter of lab %s: %s: %w", l.Number, name, err)
		}
	}
	tests, err := os.ReadFile(filepath.Join(root, l.Source(), LabTest))
	if err != nil {
		return nil, err
	}
	made[l.Dir()+"/"+LabTest], made[l.Solution()+"/"+LabTest] = tests, tests
	made[l.Dir()+"/architecture.svg"] = architecture(l)
	steps, err := os.ReadFile(filepath.Join(root, l.Dir(), "sequence.txt"))
	if errors.Is(err, fs.ErrNotExist) {
		return made, nil // not every lab has something in which the order matters
	} else if err != nil {
		return nil, err
	}
	drawn, err := sequence(string(steps))
	if err != nil {
		return nil, fmt.Errorf("%s/sequence.txt: %w", l.Dir(), err)
	}
	made[l.Dir()+"/sequence.svg"] = []byte(drawn)
	return made, nil
}

//go:embed architecture.svg
var picture string

// architecture returns the picture of all parts with those of the lab lit, on every node.
func architecture(l Lab) []byte {
	text := picture
	for _, part := range strings.Fields(l.Lit) {
		for _, node := range []string{"", "2"} {
			text = strings.Replace(text, `<g id="`+part+node+`">`, `<g id="`+part+node+`" class="lit">`, 1)
		}
	}
	return []byte(text)
}

// solution returns a file as it is, but for the hints.
func (c *code) solution(name string) ([]byte, error) {
	return format.Source(withoutHints(c.files[name].text))
}

// starter returns a file with stubs in place of what the learner writes.
func (c *code) starter(name string) ([]byte, error) {
	f := c.files[name]
	bodies := map[*ast.FuncDecl]string{}
	for _, function := range c.functions {
		if function.File == name {
			bodies[function.decl] = c.stub(f, function)
		}
	}
	text, err := withBodies(f, bodies, f)
	if err != nil {
		return nil, err
	}
	return format.Source(withoutHints(text))
}

func withoutHints(text []byte) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		if !bytes.HasPrefix(line, []byte("//lab:hint ")) {
			out.Write(line)
		}
	}
	return out.Bytes()
}

// stub returns a body that compiles and does nothing: it says that it is to be done, and returns zero values.
func (c *code) stub(f *file, function Function) string {
	todo := fmt.Sprintf("lab.TODO(%q, %q)", c.lab, function.Name)
	results := function.decl.Type.Results
	switch {
	case results == nil:
		return "{\n" + todo + "\n}"
	case len(results.List[0].Names) > 0 && !endsInError(results):
		return "{\n" + todo + "\nreturn\n}"
	}
	var values []string
	for _, result := range results.List {
		for range max(1, len(result.Names)) {
			values = append(values, c.zero(f, result.Type))
		}
	}
	if endsInError(results) {
		values[len(values)-1] = todo
		return "{\nreturn " + strings.Join(values, ", ") + "\n}"
	}
	return "{\n" + todo + "\nreturn " + strings.Join(values, ", ") + "\n}"
}

func endsInError(results *ast.FieldList) bool {
	last, ok := results.List[len(results.List)-1].Type.(*ast.Ident)
	return ok && last.Name == "error"
}

// zero returns the zero value of a type as Go writes it.
func (c *code) zero(f *file, expr ast.Expr) string {
	switch t := expr.(type) {
	case *ast.StarExpr, *ast.MapType, *ast.FuncType, *ast.ChanType, *ast.InterfaceType:
		return "nil"
	case *ast.ArrayType:
		if t.Len == nil {
			return "nil"
		}
	case *ast.Ident:
		switch {
		case t.Name == "bool":
			return "false"
		case t.Name == "string":
			return `""`
		case t.Name == "error", t.Name == "any":
			return "nil"
		case strings.HasPrefix(t.Name, "int"), strings.HasPrefix(t.Name, "uint"), strings.HasPrefix(t.Name, "float"), t.Name == "byte":
			return "0"
		case c.isStruct(t.Name):
			return t.Name + "{}"
		}
	}
	return "*new(" + string(f.text[f.offset(expr.Pos()):f.offset(expr.End())]) + ")"
}

// isStruct reports whether the package declares a struct type of the name.
func (c *code) isStruct(name string) bool {
	for _, f := range c.files {
		for _, declaration := range f.tree.Decls {
			group, ok := declaration.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range group.Specs {
				if t, ok := spec.(*ast.TypeSpec); ok && t.Name.Name == name {
					_, is := t.Type.(*ast.StructType)
					return is
				}
			}
		}
	}
	return false
}
