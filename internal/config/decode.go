package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// decoder writes a YAML document into fields. It walks the syntax tree itself instead of unmarshalling, for two
// reasons: all problems are reported at once, each with its line; and scalars are taken as they were written, so that
// an id like 64e1 stays that text and does not become a number.
type decoder struct {
	file     string
	fields   map[string]field
	known    map[string][]string // keys of each section
	seen     []string            // paths of the fields that the document sets
	problems []error
}

// decode overlays cfg with the document and returns which fields the document sets.
func decode(file string, text []byte, cfg *Config) (seen []string, err error) {
	d := &decoder{file: file, fields: map[string]field{}, known: map[string][]string{}}
	for _, f := range fields(cfg) {
		d.fields[f.path] = f
		d.learn(f.path)
	}
	tree, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, d.syntaxError(err)
	}
	switch len(tree.Docs) {
	case 0:
	case 1:
		if body := tree.Docs[0].Body; body != nil {
			d.section("", body)
		}
	default:
		d.problem(tree.Docs[1].Body, "", "there must be one document only")
	}
	return d.seen, errors.Join(d.problems...)
}

// learn records a path's keys in the sections that hold them.
func (d *decoder) learn(path string) {
	section, rest := "", path
	for {
		key, below, nested := strings.Cut(rest, ".")
		keys := d.known[section]
		if len(keys) == 0 || keys[len(keys)-1] != key {
			d.known[section] = append(keys, key)
		}
		if !nested {
			return
		}
		section, rest = join(section, key), below
	}
}

func join(section, key string) string {
	if section == "" {
		return key
	}
	return section + "." + key
}

func (d *decoder) section(path string, node ast.Node) {
	switch n := node.(type) {
	case *ast.NullNode: // a section whose every key is commented out
	case *ast.MappingValueNode:
		d.entry(path, n)
	case *ast.MappingNode:
		for _, entry := range n.Values {
			d.entry(path, entry)
		}
	default:
		d.problem(node, path, "must be a section with keys: "+strings.Join(d.known[path], ", "))
	}
}

func (d *decoder) entry(section string, entry *ast.MappingValueNode) {
	path := join(section, entry.Key.GetToken().Value)
	if _, isSection := d.known[path]; isSection {
		d.section(path, entry.Value)
		return
	}
	f, ok := d.fields[path]
	if !ok {
		d.problem(entry.Key, path, "unknown key; known here: "+strings.Join(d.known[section], ", "))
		return
	}
	d.seen = append(d.seen, path)
	if f.isList() {
		d.list(f, entry.Value)
		return
	}
	text, ok := scalar(entry.Value)
	if !ok {
		d.problem(entry.Value, path, `must be a single plain value ("" for none)`)
		return
	}
	if err := f.set(text); err != nil {
		d.problem(entry.Value, path, err.Error())
	}
}

func (d *decoder) list(f field, node ast.Node) {
	sequence, ok := node.(*ast.SequenceNode)
	if !ok {
		d.problem(node, f.path, "must be a list ([] for none)")
		return
	}
	items := []string{}
	for _, item := range sequence.Values {
		text, ok := scalar(item)
		if !ok {
			d.problem(item, f.path, "must be a list of single plain values")
			continue
		}
		items = append(items, text)
	}
	f.setList(items)
}

// scalar returns a node's text as written. Anchors, aliases and tags are not scalars: this file does not need them,
// and without them what a line says is what it sets.
func scalar(node ast.Node) (string, bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return node.GetToken().Value, true
	default:
		return "", false
	}
}

func (d *decoder) problem(node ast.Node, path, message string) {
	where := d.file
	if node != nil && node.GetToken() != nil {
		where = fmt.Sprintf("%s:%d", d.file, node.GetToken().Position.Line)
	}
	if path != "" {
		message = path + ": " + message
	}
	d.problems = append(d.problems, fmt.Errorf("%s: %s", where, message))
}

// syntaxError keeps line and message of the parser's error and drops the picture of the source around it.
func (d *decoder) syntaxError(err error) error {
	var detailed yaml.Error
	if errors.As(err, &detailed) && detailed.GetToken() != nil {
		return fmt.Errorf("%s:%d: %s", d.file, detailed.GetToken().Position.Line, detailed.GetMessage())
	}
	return fmt.Errorf("%s: %w", d.file, err)
}
