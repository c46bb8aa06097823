package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coreos/go-semver/semver"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// oldestEtcd is the oldest release whose watches the mirror can rely on: before 3.5.8 a progress notice may overtake the events before it (etcd issue
// 15220), and before 3.5.13 a watch that has had no event may get no notice (pull request 17566).
const oldestEtcd = "3.5.13"

const versionTimeout = 2 * time.Second

// checkVersions refuses an etcd that would lose what the agents rely on. A member that does not answer is passed over: it may be down.
func checkVersions(ctx context.Context, client *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	var members errgroup.Group
	for _, endpoint := range client.Endpoints() {
		members.Go(func() error {
			status, err := client.Status(ctx, endpoint)
			if err != nil {
				return nil //nolint:nilerr // see above
			}
			return checkVersion(endpoint, status.Version)
		})
	}
	return members.Wait()
}

func checkVersion(endpoint, text string) error {
	version, err := semver.NewVersion(text)
	if err != nil {
		return fmt.Errorf("etcd at %s calls its version %q: %w", endpoint, text, errdefs.ErrUnsupported)
	}
	version.PreRelease = "" // of a vendor's build
	if version.LessThan(*semver.New(oldestEtcd)) {
		return fmt.Errorf("etcd at %s is %s, older than %s, and may leave out changes: %w", endpoint, text, oldestEtcd, errdefs.ErrUnsupported)
	}
	return nil
}

// requireLeader lets a member that is cut off from its leader refuse at once, as the watch does, and asks the next one instead: gRPC takes members in turn.
// Without it each request that lands there takes seconds to fail. A refused request was not looked at, so that any may be repeated; while no member has a
// leader all are asked again for as long as an election takes.
func requireLeader(members int) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, reply any, connection *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) (err error) {
		ctx = clientv3.WithRequireLeader(ctx)
		for asked := 1; ; asked++ {
			if err = invoke(ctx, method, request, reply, connection, options...); !withoutLeader(err) || asked == leaderRounds*members {
				return err
			}
			if asked%members == 0 && wait(ctx, leaderPause) != nil {
				return err
			}
		}
	}
}

// How long is waited before members are asked again of which none had a leader, and how often they are asked: an election takes a second or two.
const (
	leaderPause  = 200 * time.Millisecond
	leaderRounds = 15
)

func withoutLeader(err error) bool {
	return err != nil && errors.Is(rpctypes.Error(err), rpctypes.ErrNoLeader)
}
