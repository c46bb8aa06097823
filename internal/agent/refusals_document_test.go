package agent_test

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// codesIn are the codes that a description names.
func codesIn(description string) []string {
	return regexp.MustCompile(`[A-Z]+(_[A-Z]+)+|container_finalizing`).FindAllString(description, -1)
}

// codeTable is which operations answer a code, by status and code; an operation is its method and path.
type codeTable map[codeRow]map[[2]string]bool

type codeRow struct {
	status int
	code   string
}

func (c codeTable) add(row refusal, method, pattern string) {
	key := codeRow{row.status, row.code}
	if c[key] == nil {
		c[key] = map[[2]string]bool{}
	}
	c[key][[2]string{method, strings.TrimPrefix(pattern, "/api/v1")}] = true
}

// elsewhere are codes of the document that TestRefusals does not cause.
var elsewhere = map[string]string{
	"METHOD_NOT_ALLOWED":             "of no operation: TestPaths",
	"INTERNAL_SERVER_ERROR":          "a fault of ours: TestPanicIsA500ThatTellsNothing",
	"SNAPSHOT_INVENTORY_UNAVAILABLE": "the store is away: TestSnapshotsThatCannotBeReadAreNotChanged",
}

// compare looks for the table in the documentation, and for the document's codes in the table.
func (c codeTable) compare(t *testing.T, doc *openapi3.T) {
	t.Helper()
	groups := groupsOf(doc)
	table := "| status | code | answered by |\n| --- | --- | --- |\n"
	for _, key := range slices.SortedFunc(maps.Keys(c), func(a, b codeRow) int {
		return cmp.Or(cmp.Compare(a.status, b.status), cmp.Compare(a.code, b.code))
	}) {
		table += fmt.Sprintf("| %d | `%s` | %s |\n", key.status, key.code, routesOf(c[key], groups))
	}
	document, err := os.ReadFile(pairDocument)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(document), table) {
		t.Errorf("%s does not have this table:\n%s", pairDocument, table)
	}
	for name, response := range doc.Components.Responses {
		for _, code := range codesIn(*response.Value.Description) {
			caused := slices.ContainsFunc(slices.Collect(maps.Keys(c)), func(row codeRow) bool { return row.code == code })
			if !caused && elsewhere[code] == "" {
				t.Errorf("no request causes %s, which the document names in %s", code, name)
			}
		}
	}
}

// group is a set of operations that has a name.
type group struct {
	name       string
	operations map[[2]string]bool
}

func groupsOf(doc *openapi3.T) []group {
	groups := []struct {
		name string
		has  func(path string, operation *openapi3.Operation) bool
	}{
		{"all", func(string, *openapi3.Operation) bool { return true }},
		{"all but `GET /openapi.json`", func(path string, _ *openapi3.Operation) bool { return !strings.HasSuffix(path, "/openapi.json") }},
		{"all with `{id}`", func(path string, _ *openapi3.Operation) bool { return strings.Contains(path, "{id}") }},
		{"all of `/containers/{id}` but copy", func(path string, _ *openapi3.Operation) bool {
			return strings.Contains(path, "/containers/{id}") && !strings.HasSuffix(path, "/copy")
		}},
		{"all that take a body", func(_ string, operation *openapi3.Operation) bool { return operation.RequestBody != nil }},
		{"all POST", func(_ string, operation *openapi3.Operation) bool {
			return operation.Parameters.GetByInAndName("header", "Idempotency-Key") != nil
		}},
	}
	var named []group
	for _, g := range groups {
		members := map[[2]string]bool{}
		for path, item := range doc.Paths.Map() {
			for method, operation := range item.Operations() {
				if g.has(path, operation) {
					members[[2]string{method, strings.TrimPrefix(path, "/api/v1")}] = true
				}
			}
		}
		named = append(named, group{g.name, members})
	}
	return named
}

// routesOf names operations: by the group that they are, or each, methods of a path together.
func routesOf(operations map[[2]string]bool, groups []group) string {
	for _, g := range groups {
		if maps.Equal(g.operations, operations) {
			return g.name
		}
	}
	methods := map[string][]string{}
	for operation := range operations {
		methods[operation[1]] = append(methods[operation[1]], operation[0])
	}
	var routes []string
	for _, path := range slices.Sorted(maps.Keys(methods)) {
		slices.Sort(methods[path])
		routes = append(routes, "`"+strings.Join(methods[path], ", ")+" "+path+"`")
	}
	return strings.Join(routes, ", ")
}
