package api

import (
	"context"
	"net/http"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// ListUsers implements GET /api/v1/operator/users.
func (s *server) ListUsers(w http.ResponseWriter, r *http.Request, params contract.ListUsersParams) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		query := agent.ListQuery{Page: value(params.Page), Limit: value(params.Limit)}
		page, err := s.ops.Users(ctx, caller, query)
		if err != nil {
			return response{}, err
		}
		return ok("Users retrieved successfully", contract.UserPage{
			Users:      each(page.Users, userView),
			Pagination: pagination(query, page.Total),
		}), nil
	})
}

// GetUser implements GET /api/v1/operator/users/{id}.
func (s *server) GetUser(w http.ResponseWriter, r *http.Request, id contract.ID) {
	s.answerUser(w, r, "User retrieved successfully", func(ctx context.Context, caller agent.Caller) (store.User, error) {
		return s.ops.User(ctx, caller, id)
	})
}

// PutUser implements PUT /api/v1/operator/users/{id}.
func (s *server) PutUser(w http.ResponseWriter, r *http.Request, id contract.ID) {
	s.answerUser(w, r, "User updated successfully", func(ctx context.Context, caller agent.Caller) (store.User, error) {
		body, err := decode[contract.PutUser](r)
		if err != nil {
			return store.User{}, err
		}
		return s.ops.PutUser(ctx, caller, id, body.Username, value(body.Alias))
	})
}

// BanUser implements PUT /api/v1/operator/users/{id}/ban.
func (s *server) BanUser(w http.ResponseWriter, r *http.Request, id contract.ID) {
	s.answerUser(w, r, "User banned successfully", func(ctx context.Context, caller agent.Caller) (store.User, error) {
		body, err := decode[contract.BanUser](r)
		if err != nil {
			return store.User{}, err
		}
		return s.ops.BanUser(ctx, caller, id, value(body.Reason))
	})
}

// UnbanUser implements DELETE /api/v1/operator/users/{id}/ban.
func (s *server) UnbanUser(w http.ResponseWriter, r *http.Request, id contract.ID) {
	s.answerUser(w, r, "User unbanned successfully", func(ctx context.Context, caller agent.Caller) (store.User, error) {
		return s.ops.UnbanUser(ctx, caller, id)
	})
}

func (s *server) answerUser(w http.ResponseWriter, r *http.Request, message string, work func(context.Context, agent.Caller) (store.User, error)) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		user, err := work(ctx, caller)
		if err != nil {
			return response{}, err
		}
		return ok(message, userView(user)), nil
	})
}

func userView(user store.User) contract.User {
	return contract.User{
		ID:        user.ID,
		Username:  orNil(user.Username),
		Alias:     orNil(user.Alias),
		Banned:    user.BannedAt != nil,
		BannedAt:  contract.AtIfAny(user.BannedAt),
		BanReason: orNil(user.BanReason),
		CreatedAt: contract.At(user.CreatedAt),
		UpdatedAt: contract.At(user.UpdatedAt),
	}
}
