package demo

import (
	"context"
	"errors"
	"net/http"

	"github.com/hoodynetwork/hoody-agent/internal/client"
)

// deleteSource: copies outlive their source, and cannot sync any more.
func (s *story) deleteSource(ctx context.Context) error {
	want, err := s.source.hash(ctx)
	if err != nil {
		return err
	}
	if err := s.here.API.Delete(ctx, s.source.ID); err != nil {
		return err
	}
	answer := 0
	gone, err := eventually(ctx, func() (bool, error) {
		_, err := s.there.API.Container(ctx, s.source.ID)
		answer = client.StatusOf(err)
		return answer == http.StatusNotFound, nil
	})
	if err != nil {
		return err
	}
	s.fact(gone, "GET of the source answers %d, on the other server, too", answer)
	for _, orphan := range []made{s.local, s.remote} {
		container, err := orphan.server.API.Container(ctx, orphan.ID)
		if err != nil {
			return err
		}
		hash, err := orphan.hash(ctx)
		if err != nil {
			return err
		}
		s.fact(container.Status == "running" && hash == want, "%s is %s and holds what the source held", orphan.Name, container.Status)
		err = orphan.server.API.Sync(ctx, orphan.ID)
		var answer *client.Error
		if !errors.As(err, &answer) {
			s.fact(false, "a sync of it answers 400: %v", err)
			continue
		}
		s.fact(answer.Status == http.StatusBadRequest && answer.Code == "SOURCE_CONTAINER_NOT_FOUND", "a sync of it: %d %s", answer.Status, answer.Code)
		listed, err := orphan.server.API.Snapshots(ctx, orphan.ID)
		if err != nil {
			return err
		}
		s.fact(s.both(listed), "it still lists the snapshots that it was copied with")
	}
	return nil
}
