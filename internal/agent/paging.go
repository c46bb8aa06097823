package agent

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// sortBy orders by the query's key, text or time, and then by id, so that pages never overlap. Of a query with a limit only
// its page is put where it belongs: that costs a look at each item instead of a sort of all.
func sortBy[T any](items []*T, query ListQuery, text func(*T) string, when func(*T) time.Time, id func(*T) string) {
	type keyed struct {
		when int64 // ns; a comparison of numbers costs a fraction of one of times
		text string
		item *T
	}
	byTime := query.SortBy == "" || query.SortBy == "created_at" || query.SortBy == "updated_at"
	keys := make([]keyed, len(items))
	for i, item := range items {
		keys[i].item = item
		if byTime {
			keys[i].when = when(item).UnixNano()
		} else {
			keys[i].text = text(item)
		}
	}
	compare := func(x, y keyed) int {
		order := cmp.Compare(x.when, y.when)
		if order == 0 && !byTime {
			order = strings.Compare(x.text, y.text)
		}
		if order == 0 {
			order = strings.Compare(id(x.item), id(y.item))
		}
		if !query.Ascending {
			return -order
		}
		return order
	}
	window := keys
	if query.Limit > 0 {
		from := min((max(query.Page, 1)-1)*query.Limit, len(keys))
		window = keys[from:min(from+query.Limit, len(keys))]
		selectNth(keys, from, compare)
		selectNth(keys[from:], len(window), compare)
	}
	slices.SortFunc(window, compare)
	for i, key := range keys {
		items[i] = key.item
	}
}

// selectNth puts the n smallest items in front, in any order (quickselect). Where its guesses are bad it sorts.
func selectNth[T any](items []T, n int, compare func(x, y T) int) {
	for round := 0; n > 0 && n < len(items); round++ {
		if len(items) < 32 || round > 64 {
			slices.SortFunc(items, compare)
			return
		}
		middle := len(items) / 2
		slices.SortFunc(items[middle-1:middle+2], compare) // the median of three
		last := len(items) - 1
		items[middle], items[last] = items[last], items[middle]
		smaller := 0
		for i := range last {
			if compare(items[i], items[last]) < 0 {
				items[i], items[smaller] = items[smaller], items[i]
				smaller++
			}
		}
		items[smaller], items[last] = items[last], items[smaller]
		if n <= smaller {
			items = items[:smaller]
		} else {
			items, n = items[smaller+1:], n-smaller-1
		}
	}
}

func paged[T any](items []T, query ListQuery, defaultLimit int) []T {
	page, limit := max(query.Page, 1), query.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	if page > len(items)/limit+1 {
		return nil
	}
	from := (page - 1) * limit
	return items[min(from, len(items)):min(from+limit, len(items))]
}
