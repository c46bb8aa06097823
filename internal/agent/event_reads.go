package agent

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// EventFilter selects events; empty fields select all.
type EventFilter struct {
	Type, ResourceType, ResourceID, ProjectID, ContainerID, RealmID string
}

// EventQuery selects and orders events as the contract has it; zero values mean the route's defaults.
type EventQuery struct {
	EventFilter
	From, Until   *time.Time // both included
	Limit, Offset int
	SortBy        string
	Ascending     bool
}

// EventPage is one page of events.
type EventPage struct {
	Events []store.Event
	Total  int
}

// Events lists what happened to the projects and containers that the caller may see.
func (a *Agent) Events(_ context.Context, caller Caller, query EventQuery) (EventPage, error) {
	sees := a.sight(caller)
	var selected []*store.Event
	for _, event := range a.store.Mirror().Events() {
		early := query.From != nil && event.CreatedAt.Before(*query.From)
		late := query.Until != nil && event.CreatedAt.Truncate(time.Millisecond).After(*query.Until) // as it is shown
		if !early && !late && query.matches(event) && sees(event) {
			selected = append(selected, event)
		}
	}
	slices.SortFunc(selected, func(x, y *store.Event) int {
		order := cmp.Or(x.CreatedAt.Compare(y.CreatedAt), strings.Compare(x.Position, y.Position))
		if query.SortBy == "event_type" {
			order = cmp.Or(strings.Compare(x.Type, y.Type), order)
		}
		if !query.Ascending {
			return -order
		}
		return order
	})
	page := EventPage{Total: len(selected)}
	limit := query.Limit
	if limit <= 0 {
		limit = 50
	}
	for _, event := range selected[min(query.Offset, len(selected)):min(query.Offset+limit, len(selected))] {
		page.Events = append(page.Events, *event)
	}
	return page, nil
}

func (f EventFilter) matches(event *store.Event) bool {
	return selects(f.Type, event.Type) && selects(f.ResourceType, event.ResourceType) && selects(f.ResourceID, event.ResourceID) &&
		selects(f.ProjectID, event.ProjectID) && selects(f.ContainerID, event.ContainerID) && inRealm(f.RealmID, event.RealmIDs)
}

func selects(wanted, value string) bool { return wanted == "" || wanted == value }

// sight tells which events a caller may see: those of projects that he may read now; and those of projects that are gone, if
// they were his. What it has found out about a project holds for as long as it is used: for one look, or one event.
func (a *Agent) sight(caller Caller) func(*store.Event) bool {
	mirror := a.store.Mirror()
	seen := make(map[string]bool)
	return func(event *store.Event) bool {
		visible, known := seen[event.ProjectID]
		if !known {
			if project, ok := mirror.Project(event.ProjectID); ok {
				visible = levelOf(caller, *project) != ""
			} else {
				visible = caller.Operator || event.OwnerID == caller.UserID
			}
			seen[event.ProjectID] = visible
		}
		return visible && caller.sees(event.RealmIDs)
	}
}
