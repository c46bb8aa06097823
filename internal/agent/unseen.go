package agent

import (
	"maps"
	"slices"
	"sync"
)

// unseen are containers whose state nobody has followed while an operation had them.
type unseen struct {
	some chan struct{} // a value: there are some

	mu  sync.Mutex
	ids map[string]bool
}

func newUnseen() *unseen { return &unseen{some: make(chan struct{}, 1), ids: make(map[string]bool)} }

func (u *unseen) add(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ids[id] = true
	select {
	case u.some <- struct{}{}:
	default:
	}
}

func (u *unseen) take() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	ids := slices.Sorted(maps.Keys(u.ids))
	clear(u.ids)
	return ids
}
