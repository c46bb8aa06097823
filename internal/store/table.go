package store

import (
	"slices"
	"strings"
	"sync/atomic"
)

// list keeps records in the order of their ids. What all returns is never changed afterwards: a write first copies the
// slice if a reader may hold it, so listing costs nothing and a write copies at most once per listing.
type list[T any] struct {
	id    func(*T) string
	items []*T
	lent  atomic.Bool // atomic: readers share a lock when they set it
}

func (l *list[T]) find(id string) (int, bool) {
	return slices.BinarySearchFunc(l.items, id, func(record *T, id string) int {
		return strings.Compare(l.id(record), id)
	})
}

func (l *list[T]) put(record *T) {
	at, found := l.find(l.id(record))
	l.own()
	if found {
		l.items[at] = record
	} else {
		l.items = slices.Insert(l.items, at, record)
	}
}

func (l *list[T]) remove(id string) {
	at, found := l.find(id)
	switch {
	case !found:
	case at == 0: // the oldest, as sweeps remove them by the thousand: nothing moves, and what a reader holds stays as it is
		if !l.lent.Load() {
			l.items[0] = nil
		}
		l.items = l.items[1:]
	default:
		l.own()
		l.items = slices.Delete(l.items, at, at+1)
	}
}

func (l *list[T]) own() {
	if l.lent.CompareAndSwap(true, false) {
		l.items = slices.Clone(l.items)
	}
}

func (l *list[T]) all() []*T {
	if l == nil {
		return nil
	}
	l.lent.Store(true)
	return slices.Clip(l.items) // a reader's append must not reach into our spare capacity
}

// table is the mirror's copy of one kind, with its indexes. The mirror's lock guards it.
type table[T any] struct {
	byID    map[string]*T
	ordered *list[T]
	indexes []*index[T]
}

func newTable[T any](id func(*T) string, indexes ...*index[T]) *table[T] {
	for _, x := range indexes {
		x.id, x.groups = id, make(map[string]*list[T])
	}
	return &table[T]{byID: make(map[string]*T), ordered: &list[T]{id: id}, indexes: indexes}
}

// put stores the record and returns the one it replaces, nil for none.
func (t *table[T]) put(record *T) (old *T) {
	id := t.ordered.id(record)
	old = t.byID[id]
	t.byID[id] = record
	t.ordered.put(record)
	for _, x := range t.indexes {
		x.replace(old, record)
	}
	return old
}

// remove drops the record and returns it, nil when there was none.
func (t *table[T]) remove(id string) (old *T) {
	old = t.byID[id]
	if old == nil {
		return nil
	}
	delete(t.byID, id)
	t.ordered.remove(id)
	for _, x := range t.indexes {
		x.replace(old, nil)
	}
	return old
}

// index groups a table's records by values of theirs.
type index[T any] struct {
	keys   func(*T) []string // the groups that a record is in
	id     func(*T) string
	groups map[string]*list[T]
}

func (x *index[T]) replace(old, new *T) {
	var before, after []string
	if old != nil {
		before = x.keys(old)
	}
	if new != nil {
		after = x.keys(new)
	}
	for _, key := range before {
		if slices.Contains(after, key) {
			continue
		}
		group := x.groups[key]
		group.remove(x.id(old))
		if len(group.items) == 0 {
			delete(x.groups, key)
		}
	}
	for _, key := range after {
		group := x.groups[key]
		if group == nil {
			group = &list[T]{id: x.id}
			x.groups[key] = group
		}
		group.put(new)
	}
}

func (x *index[T]) all(key string) []*T { return x.groups[key].all() }
