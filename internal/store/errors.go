package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/raft/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// ErrFull is a write that etcd refuses because its quota is used up. It passes: compaction runs, or somebody makes room.
var ErrFull = fmt.Errorf("the store is full: %w", errdefs.ErrExhausted)

// ErrTooLarge is a transaction that holds more than etcd takes: it does not pass.
var ErrTooLarge = fmt.Errorf("too much for one transaction: %w", errdefs.ErrExhausted)

// etcdError gives an error of the etcd client its class. op says what was being done.
func etcdError(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w: %w", op, etcdClass(err), err)
}

func etcdClass(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return errdefs.ErrUnavailable
	}
	switch toEtcd := rpctypes.Error(err); {
	case errors.Is(toEtcd, rpctypes.ErrNoSpace):
		return ErrFull
	case errors.Is(toEtcd, rpctypes.ErrTooManyRequests), strings.Contains(err.Error(), raft.ErrProposalDropped.Error()):
		return errdefs.ErrUnavailable // it has more to do than it can, or changes its leader: it passes
	case errors.Is(toEtcd, rpctypes.ErrNotCapable), errors.Is(toEtcd, rpctypes.Error(rpctypes.ErrGRPCNotSupportedForLearner)), errors.Is(toEtcd, rpctypes.ErrAuthOldRevision):
		return errdefs.ErrUnavailable // of a member that has yet to catch up
	case errors.Is(toEtcd, rpctypes.ErrRequestTooLarge),
		errors.Is(toEtcd, rpctypes.ErrTooManyOps):
		return ErrTooLarge
	case errors.Is(toEtcd, rpctypes.ErrCompacted), errors.Is(toEtcd, rpctypes.ErrLeaseNotFound):
		return errdefs.ErrStale
	case errors.Is(toEtcd, rpctypes.ErrCorrupt):
		return errdefs.ErrCorrupt
	}
	if unexplained(err) {
		return errdefs.ErrUnavailable
	}
	switch codeOf(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted,
		// Refused credentials are our configuration's fault, never the caller's: to him the store is away.
		codes.PermissionDenied, codes.Unauthenticated:
		return errdefs.ErrUnavailable
	case codes.ResourceExhausted:
		if strings.Contains(err.Error(), "larger than max") {
			return ErrTooLarge
		}
		return errdefs.ErrUnavailable // the connection's, not etcd's
	default:
		return errdefs.ErrInternal
	}
}

// unexplained tells whether gRPC could make nothing of what came back. An etcd that is just ending, or a proxy before it, answers in ways that
// are not gRPC ("unexpected HTTP status code received from server: 200 (OK); malformed header", seen when Debian's etcd-server was stopped), and
// what etcd has no code for it sends as unknown. It passes, and a transaction may be written.
func unexplained(err error) bool {
	said, ok := status.FromError(err)
	return ok && (said.Code() == codes.Unknown || said.Code() == codes.Internal)
}

// codeOf is the gRPC code of an error of the etcd client, which puts some into a type of its own that grpc does not know.
func codeOf(err error) codes.Code {
	var withCode rpctypes.EtcdError
	if errors.As(err, &withCode) {
		return withCode.Code()
	}
	return status.Code(err)
}
