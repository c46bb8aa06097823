package agent

import (
	"context"
	"strings"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// StatusLog is one change of a container's status.
type StatusLog struct {
	ID      string
	From    store.Status // empty for the first
	To      store.Status
	At      time.Time
	Lasted  *time.Duration // how long From did; nil when its beginning is not known any more
	Command string         // the operation that changed it; empty for the container itself, or an admin on its host
}

// StatusLogPage is one page of changes.
type StatusLogPage struct {
	ContainerID string
	Logs        []StatusLog
	Total       int
}

// StatusLogs lists the changes of a container's status, as far back as events are kept.
func (a *Agent) StatusLogs(ctx context.Context, caller Caller, id string, query ListQuery) (StatusLogPage, error) {
	container, err := a.readContainer(ctx, caller, id)
	if err != nil {
		return StatusLogPage{}, err
	}
	found := statusLogs(a.store.Mirror().Events(), container.ID)
	logs := make([]*StatusLog, len(found))
	for i := range found {
		logs[i] = &found[i]
	}
	sortBy(logs, query, func(l *StatusLog) string {
		if query.SortBy == "from_status" {
			return string(l.From)
		}
		return string(l.To)
	}, func(l *StatusLog) time.Time { return l.At }, func(l *StatusLog) string { return l.ID })
	page := StatusLogPage{ContainerID: container.ID, Total: len(logs)}
	for _, log := range paged(logs, query, 10) {
		page.Logs = append(page.Logs, *log)
	}
	return page, nil
}

// statusLogs reads the changes of one container's status out of the events, oldest first. What else the same transaction
// tells of the container's operation says which one it was.
func statusLogs(events []*store.Event, containerID string) []StatusLog {
	var logs []StatusLog
	commands := make(map[string]string) // by transaction
	var transactions []string           // of logs
	for _, event := range events {
		if event.ContainerID != containerID {
			continue
		}
		transaction, _, _ := strings.Cut(event.Position, "-")
		if kind, ok := event.Payload["kind"].(string); ok {
			commands[transaction] = kind
		}
		status, ok := strings.CutPrefix(event.Type, "container.")
		if !ok || !isStatus(store.Status(status)) {
			continue
		}
		from, _ := event.Payload["previous_status"].(string)
		log := StatusLog{ID: event.ID, From: store.Status(from), To: store.Status(status), At: event.CreatedAt}
		if n := len(logs); n > 0 && logs[n-1].To == log.From {
			lasted := max(0, log.At.Sub(logs[n-1].At))
			log.Lasted = &lasted
		}
		logs, transactions = append(logs, log), append(transactions, transaction)
	}
	for i := range logs {
		logs[i].Command = commands[transactions[i]]
	}
	return logs
}

func isStatus(status store.Status) bool {
	switch status {
	case store.StatusCreating, store.StatusRunning, store.StatusPaused, store.StatusStopped, store.StatusFailed,
		store.StatusDeleted, store.StatusCopying, store.StatusDeleting:
		return true
	}
	return false
}
