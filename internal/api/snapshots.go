package api

import (
	"context"
	"net/http"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// ListSnapshots implements GET /api/v1/containers/{id}/snapshots.
func (s *server) ListSnapshots(w http.ResponseWriter, r *http.Request, id contract.ID) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		list, err := s.ops.Snapshots(ctx, caller, id)
		if err != nil {
			return response{}, err
		}
		return ok("Snapshots retrieved successfully", contract.SnapshotList{
			ContainerID:   list.Container.ID,
			ProjectID:     list.Container.ProjectID,
			SnapshotCount: countedSnapshots(list.Snapshots),
			MaxSnapshots:  orNil(list.MaxSnapshots),
			Snapshots:     each(list.Snapshots, snapshotView),
		}), nil
	})
}

// CreateSnapshot implements POST /api/v1/containers/{id}/snapshots.
func (s *server) CreateSnapshot(w http.ResponseWriter, r *http.Request, id contract.ID, _ contract.CreateSnapshotParams) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		body, err := decode[contract.CreateSnapshot](r)
		if err != nil {
			return response{}, err
		}
		result, err := s.ops.CreateSnapshot(ctx, caller, id, agent.CreateSnapshotRequest{Alias: body.Alias, ExpiryDays: body.Expiry})
		if err != nil {
			return response{}, err
		}
		return ok("Snapshot created successfully", contract.SnapshotCreated{
			ContainerID: result.Container.ID,
			ProjectID:   result.Container.ProjectID,
			Snapshot:    snapshotView(result.Snapshot),
		}), nil
	})
}

// RestoreSnapshot implements PATCH /api/v1/containers/{id}/snapshots/{name}.
func (s *server) RestoreSnapshot(w http.ResponseWriter, r *http.Request, id contract.ID, name contract.SnapshotName) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		result, err := s.ops.RestoreSnapshot(ctx, caller, id, name)
		if err != nil {
			return response{}, err
		}
		const message = "Container restored from snapshot successfully"
		return ok(message, contract.SnapshotRestored{Success: true, Message: message, Snapshot: snapshotView(result.Snapshot)}), nil
	})
}

// PutSnapshot implements PUT /api/v1/containers/{id}/snapshots/{name}, which the contract has beside PATCH.
func (s *server) PutSnapshot(w http.ResponseWriter, r *http.Request, id contract.ID, name contract.SnapshotName) {
	s.RestoreSnapshot(w, r, id, name)
}

// RenameSnapshot implements PATCH /api/v1/containers/{id}/snapshots/{name}/alias.
func (s *server) RenameSnapshot(w http.ResponseWriter, r *http.Request, id contract.ID, name contract.SnapshotName) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		body, err := decode[contract.RenameSnapshot](r)
		if err != nil {
			return response{}, err
		}
		result, err := s.ops.RenameSnapshot(ctx, caller, id, name, body.Alias)
		if err != nil {
			return response{}, err
		}
		return ok("Snapshot alias updated successfully", contract.SnapshotRenamed{
			ContainerID: result.Container.ID,
			ProjectID:   result.Container.ProjectID,
			Snapshot:    snapshotView(result.Snapshot),
		}), nil
	})
}

// PutSnapshotAlias implements PUT /api/v1/containers/{id}/snapshots/{name}/alias, which the contract has beside PATCH.
func (s *server) PutSnapshotAlias(w http.ResponseWriter, r *http.Request, id contract.ID, name contract.SnapshotName) {
	s.RenameSnapshot(w, r, id, name)
}

// DeleteSnapshot implements DELETE /api/v1/containers/{id}/snapshots/{name}.
func (s *server) DeleteSnapshot(w http.ResponseWriter, r *http.Request, id contract.ID, name contract.SnapshotName) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		result, err := s.ops.DeleteSnapshot(ctx, caller, id, name)
		if err != nil {
			return response{}, err
		}
		return ok("Snapshot deleted successfully", contract.SnapshotDeleted{
			ContainerID:  result.Container.ID,
			ProjectID:    result.Container.ProjectID,
			SnapshotName: result.Snapshot.Name,
		}), nil
	})
}

// countedSnapshots is how many count against the limit: what is kept to undo a sync or restore does not.
func countedSnapshots(all []store.Snapshot) int {
	counted := 0
	for _, snapshot := range all {
		if !snapshot.Undo {
			counted++
		}
	}
	return counted
}

func snapshotView(snapshot store.Snapshot) contract.Snapshot {
	return contract.Snapshot{
		Name:       snapshot.Name,
		Alias:      snapshot.Alias,
		CreatedAt:  contract.At(snapshot.CreatedAt),
		LastUsedAt: contract.AtIfAny(snapshot.LastUsedAt),
		ExpiresAt:  contract.AtIfAny(snapshot.ExpiresAt),
		Size:       snapshot.Size,
		Undo:       orNil(snapshot.Undo),
		Missing:    orNil(snapshot.Missing),
	}
}
