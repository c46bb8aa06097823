package agent

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// Pages of any size put together are the whole list in order, whatever the order it was in.
func TestPagesAreTheSortedList(t *testing.T) {
	type item struct {
		id   string
		name string
		at   time.Time
	}
	for round := range 200 {
		random := rand.New(rand.NewPCG(1, uint64(round)))
		var items []*item
		for i := range random.IntN(300) {
			items = append(items, &item{fmt.Sprintf("%04d", i), fmt.Sprint(random.IntN(40)), time.Unix(int64(random.IntN(40)), 0)})
		}
		random.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
		query := ListQuery{Limit: 1 + random.IntN(60), Ascending: random.IntN(2) == 0, SortBy: []string{"", "name", "updated_at", "id"}[random.IntN(4)]}
		sorted := func(query ListQuery) []*item {
			all := slices.Clone(items)
			sortBy(all, query, func(x *item) string {
				if query.SortBy == "name" {
					return x.name
				}
				return x.id
			}, func(x *item) time.Time { return x.at }, func(x *item) string { return x.id })
			return all
		}
		whole := query
		whole.Limit = 0
		var pages []*item
		for query.Page = 1; len(pages) < len(items); query.Page++ {
			page := paged(sorted(query), query, 10)
			if len(page) == 0 {
				t.Fatalf("round %d: page %d of %d items is empty", round, query.Page, len(items))
			}
			pages = append(pages, page...)
		}
		if want := sorted(whole); !slices.Equal(pages, want) {
			t.Fatalf("round %d: the pages of %+v are not the sorted list", round, query)
		}
	}
}
