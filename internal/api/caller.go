package api

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// actAsHeader names the user that an operator acts as.
const actAsHeader = "X-Hoody-User"

// establish finds out who sends a request and whether he may send one at all.
func (s *server) establish(r *http.Request, e *exchange) error {
	caller, err := s.auth.Authenticate(r)
	if err != nil {
		return err
	}
	caller.RealmID = realmOf(r.Host)
	e.caller = caller
	if err := s.ops.Admit(caller); err != nil {
		return err
	}
	if err := s.limiter.admit(r, caller); err != nil {
		return err
	}
	if names := r.Header.Values(actAsHeader); len(names) > 0 {
		e.caller, err = actAs(caller, names)
		e.caller.RealmID = caller.RealmID
	}
	e.caller.RequestID = e.id
	return err
}

// actAs is the operator as a user: with the user's rights and no others. That a user is banned is no reason to refuse his
// operator.
func actAs(operator agent.Caller, users []string) (agent.Caller, error) {
	if !operator.Operator {
		return operator, errdefs.New(errdefs.ErrPermissionDenied, "INSUFFICIENT_PERMISSIONS", "Only an operator may send %s", actAsHeader)
	}
	if len(users) != 1 || !userID.MatchString(users[0]) {
		return operator, errdefs.New(errdefs.ErrInvalid, "INVALID_ID_FORMAT", "%s must be one user's id", actAsHeader)
	}
	return agent.Caller{UserID: users[0], ActingOperator: operator.UserID, Expires: operator.Expires}, nil
}

// realmOf is the realm that a request's host names: <realm>.api.<domain>. Empty for a host that names none.
func realmOf(host string) string {
	realm, rest, ok := strings.Cut(strings.ToLower(host), ".") // names of hosts have no case (RFC 9110, 4.2.3)
	if !ok || rest == "" || !userID.MatchString(realm) {
		return ""
	}
	return realm
}

var userID = regexp.MustCompile(`^[0-9a-f]{24}$`)
