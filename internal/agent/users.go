package agent

import (
	"context"
	"errors"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// UserPage is one page of users.
type UserPage struct {
	Users []store.User
	Total int
}

// Users lists the users that the control plane has registered or banned.
func (a *Agent) Users(_ context.Context, caller Caller, query ListQuery) (UserPage, error) {
	if !caller.Operator {
		return UserPage{}, insufficientPermissions()
	}
	all := a.store.Mirror().Users()
	page := UserPage{Total: len(all)}
	for _, user := range paged(all, query, 10) {
		page.Users = append(page.Users, *user)
	}
	return page, nil
}

// User returns one of them.
func (a *Agent) User(ctx context.Context, caller Caller, id string) (store.User, error) {
	if !caller.Operator {
		return store.User{}, insufficientPermissions()
	}
	user, ok := a.store.Mirror().User(id)
	if !ok { // another agent may have just registered it
		if _, err := a.store.Barrier(ctx); err != nil {
			return store.User{}, err
		}
		if user, ok = a.store.Mirror().User(id); !ok {
			return store.User{}, resourceNotFound("User")
		}
	}
	return *user, nil
}

// NamesOf returns what a user is called; the zero value for one that is not registered.
func (a *Agent) NamesOf(userID string) store.User {
	user, ok := a.store.Mirror().User(userID)
	if !ok {
		return store.User{}
	}
	return store.User{ID: user.ID, Username: user.Username, Alias: user.Alias}
}

// PutUser registers a user's names.
func (a *Agent) PutUser(ctx context.Context, caller Caller, id, username, alias string) (store.User, error) {
	return a.changeUser(ctx, caller, id, func(user *store.User) { user.Username, user.Alias = username, alias })
}

// BanUser refuses a user everything from now on, at every agent. What he has started goes on.
func (a *Agent) BanUser(ctx context.Context, caller Caller, id, reason string) (store.User, error) {
	return a.changeUser(ctx, caller, id, func(user *store.User) {
		if user.BannedAt == nil {
			user.BannedAt = new(a.now())
		}
		user.BanReason = reason
	})
}

// UnbanUser lifts a ban.
func (a *Agent) UnbanUser(ctx context.Context, caller Caller, id string) (store.User, error) {
	return a.changeUser(ctx, caller, id, func(user *store.User) { user.BannedAt, user.BanReason = nil, "" })
}

// changeUser writes what change makes of a user's record, of a new one if there is none.
func (a *Agent) changeUser(ctx context.Context, caller Caller, id string, change func(*store.User)) (store.User, error) {
	if !caller.Operator {
		return store.User{}, insufficientPermissions()
	}
	now := a.now()
	var user store.User
	err := a.accept(ctx, caller, func(tx *store.Tx) (err error) {
		user, err = tx.User(id)
		if errors.Is(err, errdefs.ErrNotFound) {
			user, err = store.User{ID: id, CreatedAt: now}, nil
		}
		if err != nil {
			return err
		}
		change(&user)
		user.UpdatedAt = now
		return tx.PutUser(user)
	})
	if err != nil {
		return store.User{}, err
	}
	return user, nil
}
