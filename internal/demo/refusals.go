package demo

import (
	"context"
	"errors"
	"maps"
	"net/http"

	"github.com/hoodynetwork/hoody-agent/internal/client"
)

// besides is how many bytes a pool may grow by the records that an agent writes into it in the background. What was displaced before may
// be collected meanwhile, too.
const besides = 64 << 10

// nobody is the id of nothing.
const nobody = "64c1aa00b2d34e5f6071ffff"

// refuse: what the documentation says is refused, is, with the status and code that it names, and changes nothing.
func (s *story) refuse(ctx context.Context) error {
	before, err := s.holdings(ctx)
	if err != nil {
		return err
	}
	body := func(more map[string]any) map[string]any {
		full := map[string]any{"target_project_id": s.project.ID}
		maps.Copy(full, more)
		return full
	}
	containers := "/api/v1/containers/"
	copyIt := containers + s.source.ID + "/copy"
	for _, refusal := range []struct {
		what, path string
		body       any
		status     int
		code       string // empty: any
	}{
		{"sync of a container that is no copy", containers + s.source.ID + "/sync", nil, 400, "CONTAINER_NOT_COPIED"},
		{"sync of an unknown container", containers + nobody + "/sync", nil, 404, ""},
		{"copy of an unknown container", containers + nobody + "/copy", body(nil), 404, "SOURCE_CONTAINER_NOT_FOUND"},
		{"copy to an unknown project", copyIt, body(map[string]any{"target_project_id": nobody}), 404, "RESOURCE_NOT_FOUND"},
		{"copy to an unknown server", copyIt, body(map[string]any{"target_server_id": nobody}), 404, "RESOURCE_NOT_FOUND"},
		{"copy of an unknown snapshot", copyIt, body(map[string]any{"source_snapshot": "nothing"}), 404, "RESOURCE_NOT_FOUND"},
		{"copy with a name that is taken", copyIt, body(map[string]any{"name": s.local.Name}), 409, "CONTAINER_NAME_IN_USE"},
		{"copy with the source's SSH key", copyIt, body(map[string]any{"ssh_public_key": keyOf(s.source.Container)}), 409, "SSH_PUBLIC_KEY_IN_USE"},
		{"copy with an unknown field", copyIt, body(map[string]any{"colour": "red"}), 400, "VALIDATION_ERROR"},
		{"copy without a project", copyIt, map[string]any{}, 400, ""},
		{"copy with a name of two letters", copyIt, body(map[string]any{"name": "ab"}), 400, "INVALID_CONTAINER_NAME"},
		{"copy with broken JSON", copyIt, `{"target_project_id":`, 400, ""},
	} {
		err := s.here.API.Do(ctx, http.MethodPost, refusal.path, refusal.body, nil)
		var answer *client.Error
		if !errors.As(err, &answer) {
			s.fact(false, "%s: %v, and not %d %s", refusal.what, err, refusal.status, refusal.code)
			continue
		}
		s.fact(answer.Status == refusal.status && (refusal.code == "" || answer.Code == refusal.code),
			"%s: %d %s", refusal.what, answer.Status, answer.Code)
	}
	stranger := *s.here.API
	stranger.Token = "not.a.token"
	answer := client.StatusOf(stranger.Do(ctx, http.MethodPost, copyIt, body(nil), nil))
	s.fact(answer == http.StatusUnauthorized, "copy without a valid token: %d", answer)
	after, err := s.holdings(ctx)
	if err != nil {
		return err
	}
	left := after[0]-before[0] >= besides || after[1]-before[1] >= besides
	s.fact(!left, "nothing is left of any of them on either server")
	return nil
}

// holdings are the bytes that both pools hold.
func (s *story) holdings(ctx context.Context) (held [2]int64, err error) {
	for i, server := range []Server{s.here, s.there} {
		if held[i], err = server.Host.Used(ctx); err != nil {
			return held, err
		}
	}
	return held, nil
}
