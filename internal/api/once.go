package api

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

const (
	onceHeader     = "Idempotency-Key"
	replayedHeader = "Idempotent-Replayed"
)

// countOnce takes a client's key over, on the routes that document one: a repetition is the same key on the same path with
// the same body.
func countOnce(r *http.Request, rt route) error {
	keys := r.Header.Values(onceHeader)
	if len(keys) == 0 || rt.spec.Operation.Parameters.GetByInAndName("header", onceHeader) == nil {
		return nil
	}
	if len(keys) > 1 {
		return errdefs.New(errdefs.ErrInvalid, "INVALID_PARAMETER_VALUE", "Invalid parameter value").
			WithData([]contract.Issue{{InstancePath: pointer(onceHeader), Message: "must be given once"}})
	}
	body, err := r.GetBody()
	if err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, body); err != nil {
		return err
	}
	caller := &exchangeOf(r).caller
	caller.Once = &agent.Once{
		Scope: r.Method + " " + caller.RealmID + r.URL.Path, Key: keys[0], Digest: hex.EncodeToString(sum.Sum(nil)),
	}
	return nil
}

// tellRepetition says that an answer is an earlier request's.
func tellRepetition(w http.ResponseWriter, caller agent.Caller) {
	if caller.Once != nil && caller.Once.Repeated {
		w.Header().Set(replayedHeader, "true")
	}
}
