package api_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The table of routes in the documentation is the contract's: each operation once, with the statuses that it answers.
func TestRouteTable(t *testing.T) {
	page, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	routes := regexp.MustCompile("(?m)^\\| (?:\\*\\*own\\*\\* )?((?:`[A-Z]+`, )*)`([A-Z]+) (/api/v1/[^`]*)` \\| (\\d+)[^|]* \\| ([\\d ]+) \\|$")
	written := map[string]string{}
	for _, row := range routes.FindAllStringSubmatch(string(page), -1) {
		methods := append(regexp.MustCompile("[A-Z]+").FindAllString(row[1], -1), row[2])
		for _, method := range methods {
			route := method + " " + row[3]
			if written[route] != "" {
				t.Errorf("%s stands there twice", route)
			}
			written[route] = row[4] + " " + row[5]
		}
	}
	documented := map[string]string{}
	doc := loadDocument(t)
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			documented[method+" "+path] = strings.Join(slices.Sorted(maps.Keys(operation.Responses.Map())), " ")
		}
	}
	if diff := cmp.Diff(documented, written); diff != "" {
		t.Errorf("the table in docs/api.md (+) is not the contract (-):\n%s", diff)
	}
}
