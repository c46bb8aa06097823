package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/hoodynetwork/hoody-agent/"

// imports lists, by package of the project, which packages of the project its files import, those of tests left out.
func imports(t *testing.T, root string) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		pkg, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if own, ok := strings.CutPrefix(imported, module); ok && !slices.Contains(found[pkg], own) {
				found[pkg] = append(found[pkg], own)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// The layers of docs/architecture.md. A driver knows the interfaces of package agent and nothing of other drivers; what
// plans does no input or output; what serves requests does not reach around the agent.
func TestLayering(t *testing.T) {
	all := imports(t, "../..")
	if len(all["cmd/hoody-agent"]) == 0 {
		t.Fatal("this test looks in the wrong place")
	}
	mayImport := map[string][]string{ // of the project's packages; those not listed here are free
		"internal/errdefs":  {},
		"internal/lineage":  {"internal/errdefs"},
		"internal/identity": {"internal/errdefs"},
		"internal/pki":      {"internal/errdefs"},
		"internal/metrics":  {"internal/errdefs"},
		"internal/health":   {},
		"internal/doctor":   {"internal/errdefs"},
		"internal/admin":    {"internal/errdefs", "internal/health", "internal/lineage", "internal/store", "internal/agent", "internal/digest"},
		"internal/config":   {"internal/errdefs", "internal/pki"},
		"internal/store":    {"internal/errdefs", "internal/lineage", "internal/store/embedded"},
		"internal/transfer": {"internal/errdefs", "internal/pki"},
		"internal/zfs":      {"internal/errdefs", "internal/lineage", "internal/agent"},
		"internal/lxc":      {"internal/errdefs", "internal/lineage", "internal/agent"},
		"internal/sim":      {"internal/errdefs", "internal/lineage", "internal/agent"},
		"internal/client":   {"internal/api/contract"},
		"internal/demo":     {"internal/client", "internal/api/contract", "internal/userpage"}, // what any program could tell
		"internal/userpage": {},
		"internal/agent":    {"internal/errdefs", "internal/lineage", "internal/store", "internal/identity", "internal/digest"},
		"internal/digest":   {"internal/errdefs"},
	}
	for pkg, allowed := range mayImport {
		for _, imported := range all[pkg] {
			if !slices.Contains(allowed, imported) {
				t.Errorf("%s imports %s; it may import %v", pkg, imported, allowed)
			}
		}
	}
	// By prefix. internal/modeltest is for tests alone.
	never := []struct{ importer, imported string }{
		{"internal/api", "internal/zfs"}, {"internal/api", "internal/lxc"}, {"internal/api", "internal/transfer"},
		{"internal/", "internal/metrics"}, {"internal/", "internal/config"}, {"internal/", "internal/demo"}, {"internal/", "internal/sim"},
		{"", "cmd/"},
	}
	for pkg, imported := range all {
		for _, rule := range never {
			for _, path := range imported {
				if strings.HasPrefix(pkg, rule.importer) && strings.HasPrefix(path, rule.imported) && pkg != "internal/modeltest" {
					t.Errorf("%s imports %s: nothing in %q may import %s", pkg, path, rule.importer, rule.imported)
				}
			}
		}
	}
}
