package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coreos/go-semver/semver"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// oldestEtcd is the oldest release whose watches the mirror can rely on: before 3.5.8 a progress notice may overtake the events before it (etcd issue
// 15220), and before 3.5.13 a watch that has had no event may get no notice (pull request 17566).
const oldestEtcd = "3.5.13"

const versionTimeout = 2 * time.Second

// checkVersions refuses an etcd that would lose what the agents rely on. A member that does not answer is passed over: it may be down.
func checkVersions(ctx context.Context, client *clientv3.Client) error {
	for _, endpoint := range client.Endpoints() {
		bounded, cancel := context.WithTimeout(ctx, versionTimeout)
		status, err := client.Status(bounded, endpoint)
		cancel()
		if err != nil {
			continue
		}
		version, err := semver.NewVersion(status.Version)
		if err != nil {
			return fmt.Errorf("etcd at %s calls its version %q: %w", endpoint, status.Version, errdefs.ErrUnsupported)
		}
		if version.LessThan(*semver.New(oldestEtcd)) {
			return fmt.Errorf("etcd at %s is %s, older than %s, and may leave out changes: %w", endpoint, version, oldestEtcd, errdefs.ErrUnsupported)
		}
	}
	return nil
}

// requireLeader lets a member that is cut off from its leader refuse at once, so that the client asks another one, as the watch does. Without it each
// request that lands there takes seconds to fail.
func requireLeader(ctx context.Context, method string, request, reply any, connection *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	return invoke(clientv3.WithRequireLeader(ctx), method, request, reply, connection, options...)
}

// leaderPause is how long a transaction waits before it asks again where a member had no leader.
const leaderPause = 200 * time.Millisecond

func withoutLeader(err error) bool { return errors.Is(err, rpctypes.ErrNoLeader) }
