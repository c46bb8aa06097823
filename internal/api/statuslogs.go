package api

import (
	"context"
	"net/http"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
)

// ListStatusLogs implements GET /api/v1/containers/{id}/status-logs.
func (s *server) ListStatusLogs(w http.ResponseWriter, r *http.Request, id contract.ID, params contract.ListStatusLogsParams) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		query := agent.ListQuery{
			Page:      value(params.Page),
			Limit:     value(params.Limit),
			SortBy:    string(value(params.SortBy)),
			Ascending: value(params.SortOrder) == contract.SortDirectionAsc,
		}
		if query.SortBy == string(contract.StatusLogSortKeyTransitionTime) {
			query.SortBy = "" // by time
		}
		page, err := s.ops.StatusLogs(ctx, caller, id, query)
		if err != nil {
			return response{}, err
		}
		return ok("Container status logs retrieved successfully", contract.StatusLogPage{
			Logs:       each(page.Logs, statusLogView(page.ContainerID)),
			Pagination: pagination(query, page.Total),
		}), nil
	})
}

func statusLogView(containerID string) func(agent.StatusLog) contract.StatusLog {
	return func(log agent.StatusLog) contract.StatusLog {
		shown := contract.StatusLog{
			ID:             log.ID,
			ContainerID:    containerID,
			FromStatus:     orNil(contract.ContainerStatus(log.From)),
			ToStatus:       contract.ContainerStatus(log.To),
			TransitionTime: contract.At(log.At),
			TriggeredBy:    contract.StatusLogTriggeredBySystem,
			Metadata:       contract.StatusLogMetadata{Command: orNil(log.Command)},
		}
		if log.Command != "" {
			shown.TriggeredBy = contract.StatusLogTriggeredByUser
		}
		if log.Lasted != nil {
			shown.DurationMs = new(log.Lasted.Milliseconds())
		}
		return shown
	}
}
