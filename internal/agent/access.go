package agent

import (
	"errors"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// Admit refuses a caller who is banned, as far as this agent knows at the moment. Transactions look again where it is true.
func (a *Agent) Admit(caller Caller) error {
	user, ok := a.store.Mirror().User(caller.UserID)
	if ok && user.BannedAt != nil && !caller.aboveBans() {
		return accountBanned()
	}
	return nil
}

// admitted is Admit inside a transaction: a ban counts for every change that is asked for after it, at any agent.
func admitted(tx *store.Tx, caller Caller) error {
	if caller.aboveBans() {
		return nil
	}
	user, err := tx.User(caller.UserID)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if user.BannedAt != nil {
		return accountBanned()
	}
	return nil
}

// aboveBans tells whether it is an operator who asks, for himself or for a user.
func (c Caller) aboveBans() bool { return c.Operator || c.ActingOperator != "" }

func accountBanned() *errdefs.Error {
	return errdefs.New(errdefs.ErrPermissionDenied, "ACCOUNT_BANNED", "Your account is banned")
}

// levelOf is what a caller may do with a project; empty for nothing.
func levelOf(caller Caller, project store.Project) store.PermissionLevel {
	if owns(caller, project) {
		return store.PermissionDelete
	}
	for _, grant := range project.Permissions {
		if grant.UserID == caller.UserID {
			return grant.Level
		}
	}
	return ""
}

var levelRank = map[store.PermissionLevel]int{store.PermissionRead: 1, store.PermissionEdit: 2, store.PermissionDelete: 3}

// allow checks that the caller has at least the level. notFound is answered to who may not even know of the object.
func allow(caller Caller, project store.Project, need store.PermissionLevel, notFound *errdefs.Error) error {
	have := levelRank[levelOf(caller, project)]
	if have == 0 {
		return notFound
	}
	if have < levelRank[need] {
		return insufficientPermissions()
	}
	return nil
}

// owns tells whether the caller stands above all grants on a project.
func owns(caller Caller, project store.Project) bool {
	return caller.Operator || project.UserID == caller.UserID
}

func insufficientPermissions() *errdefs.Error {
	return errdefs.New(errdefs.ErrPermissionDenied, "INSUFFICIENT_PERMISSIONS", "Insufficient permissions")
}

func projectNotFound() *errdefs.Error {
	return errdefs.New(errdefs.ErrNotFound, "PROJECT_NOT_FOUND", "Project not found")
}

func containerNotFound() *errdefs.Error {
	return errdefs.New(errdefs.ErrNotFound, "CONTAINER_NOT_FOUND", "Container not found")
}

func sourceNotFound() *errdefs.Error {
	return errdefs.New(errdefs.ErrNotFound, "SOURCE_CONTAINER_NOT_FOUND", "Source container not found")
}

func resourceNotFound(what string) *errdefs.Error {
	return errdefs.New(errdefs.ErrNotFound, "RESOURCE_NOT_FOUND", "%s not found", what)
}

func operationInProgress() *errdefs.Error {
	return errdefs.New(errdefs.ErrBusy, "CONTAINER_OPERATION_IN_PROGRESS", "Another operation is in progress on this container")
}

func snapshotOperationInProgress() *errdefs.Error {
	return errdefs.New(errdefs.ErrBusy, "SNAPSHOT_OPERATION_IN_PROGRESS", "Another operation is in progress on this container")
}

// storeClosed is why the agent ends when its store does.
func storeClosed() error { return errdefs.New(errdefs.ErrUnavailable, "", "the store is closed") }

func stateConflict(format string, args ...any) *errdefs.Error {
	return errdefs.New(errdefs.ErrFailedPrecondition, "OPERATION_STATE_CONFLICT", format, args...)
}
