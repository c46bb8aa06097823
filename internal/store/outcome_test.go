package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// interference takes a transaction's way to etcd in hand: forward sends it there.
type interference func(forward func() error) error

// interfered opens a store beside another one; what arm is given gets hold of the next transactions that write, one each.
func interfered(t *testing.T, s *Store, timeout time.Duration) (opened *Store, arm func(...interference)) {
	var mu sync.Mutex
	var armed []interference
	intercept := func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		forward := func() error { return invoke(context.WithoutCancel(ctx), method, request, reply, conn, opts...) }
		txn, ok := request.(*etcdserverpb.TxnRequest)
		if !ok || !slices.ContainsFunc(txn.Success, func(op *etcdserverpb.RequestOp) bool { return op.GetRequestPut() != nil }) {
			return forward()
		}
		mu.Lock()
		var next interference
		if len(armed) > 0 {
			next, armed = armed[0], armed[1:]
		}
		mu.Unlock()
		if next == nil {
			return forward()
		}
		return next(forward)
	}
	opened = beside(t, s, func(o *Options) {
		o.UpdateTimeout = timeout
		o.dialOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(intercept)}
	})
	return opened, func(next ...interference) {
		mu.Lock()
		defer mu.Unlock()
		armed = next
	}
}

// A transaction whose answer gets lost counts once, whatever came of it.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	var late func() error // what has not arrived yet
	lose := func(forward func() error) error {
		return errors.Join(forward(), rpctypes.ErrGRPCTimeout)
	}
	drop := func(func() error) error { return rpctypes.ErrGRPCTimeout }
	delay := func(forward func() error) error {
		late = forward
		return rpctypes.ErrGRPCTimeout
	}
	change := func(forward func() error) error { // of what the transaction wrote, twice, by somebody else
		err := forward()
		for range 2 {
			update(t, s, func(tx *Tx) error {
				project, err := tx.Project("p1")
				project.Alias += "x"
				return errors.Join(err, tx.PutProject(project))
			})
		}
		return errors.Join(err, rpctypes.ErrGRPCTimeout)
	}
	pass := func(forward func() error) error { return forward() }
	arriveBefore := func(forward func() error) error { return errors.Join(late(), forward()) }
	arriveAfter := func(forward func() error) error { return errors.Join(forward(), late()) }
	// What an etcd that is just ending answers with.
	garbled := func(forward func() error) error {
		return errors.Join(forward(), status.Error(codes.Unknown, "unexpected HTTP status code received from server: 200 (OK)"))
	}
	for name, test := range map[string]struct {
		interferences []interference
		runs          int
	}{
		"it was written, and the answer is none": {[]interference{garbled}, 1},
		"it was written":                         {[]interference{lose}, 1},
		"it never arrived":                       {[]interference{drop}, 2},
		"it arrives before it is looked for":     {[]interference{delay, arriveBefore}, 1},
		"it arrives after it is looked for":      {[]interference{delay, arriveAfter}, 2},
		"it was written and changed meanwhile":   {[]interference{change}, 1},
		"the answer to the second is lost, too":  {[]interference{drop, pass, lose}, 2},
		"the fence does not get through":         {[]interference{lose, drop, drop}, 1},
	} {
		update(t, s, func(tx *Tx) error {
			return errors.Join(tx.PutProject(Project{ID: "p1"}), tx.DeleteContainer("c1"), tx.ReleaseUnique(UniqueContainerName, "p1", "web", "c1"))
		})
		lossy, arm := interfered(t, s, bound)
		arm(test.interferences...)
		runs := 0
		revision, err := lossy.Update(testContext(t), func(tx *Tx) error {
			runs++
			project, err := tx.Project("p1")
			if err != nil {
				return err
			}
			project.Containers++
			if err := tx.ClaimUnique(UniqueContainerName, "p1", "web", "c1"); err != nil {
				return err
			}
			return errors.Join(tx.PutProject(project), tx.PutContainer(Container{ID: "c1", ProjectID: "p1"}))
		})
		if err != nil || runs != test.runs {
			t.Errorf("%s: %v after %d runs, want none after %d", name, err, runs, test.runs)
			continue
		}
		project, err := s.GetProject(testContext(t), "p1")
		if err != nil || project.Containers != 1 {
			t.Errorf("%s: the project counts %d containers, want 1: %v", name, project.Containers, err)
		}
		if kv, err := s.version(testContext(t), s.keys.record(KindContainer, "c1"), 0); err != nil || kv == nil || kv.ModRevision != revision {
			t.Errorf("%s: revision %d, and the container's is %+v, %v", name, revision, kv, err)
		}
	}
}

// What reads nothing that exists is found out about, too: the first project of a user that nobody knows.
func TestLostAnswerOfTheFirst(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	for name, test := range map[string]struct {
		interference interference
		runs         int
	}{
		"it was written":   {func(forward func() error) error { return errors.Join(forward(), rpctypes.ErrGRPCTimeout) }, 1},
		"it never arrived": {func(func() error) error { return rpctypes.ErrGRPCTimeout }, 2},
	} {
		lossy, arm := interfered(t, s, bound)
		arm(test.interference)
		runs := 0
		_, err := lossy.Update(testContext(t), func(tx *Tx) error {
			runs++
			return errors.Join(tx.ClaimUnique(UniqueProjectAlias, "u1", name, name), tx.PutUser(User{ID: name}))
		})
		if err != nil || runs != test.runs {
			t.Errorf("%s: %v after %d runs, want none after %d", name, err, runs, test.runs)
		}
	}
}

// A store that was exchanged while the answer got lost is not written to.
func TestLostAnswerOfAStoreThatIsGone(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	update(t, s, func(tx *Tx) error { return tx.PutProject(Project{ID: "p1"}) })
	lossy, arm := interfered(t, s, bound)
	arm(func(func() error) error {
		_, err := s.client.Put(testContext(t), string(s.keys.storeID()), "another")
		return errors.Join(err, rpctypes.ErrGRPCTimeout)
	})
	runs := 0
	_, err := lossy.Update(testContext(t), func(tx *Tx) error {
		runs++
		project, err := tx.Project("p1")
		project.Alias = "new"
		return errors.Join(err, tx.PutProject(project))
	})
	if !errors.Is(err, errdefs.ErrCorrupt) || errors.Is(err, ErrOutcomeUnknown) || runs != 1 {
		t.Errorf("%v after %d runs, want the store to be found out", err, runs)
	}
}

// Two that write the same values are told apart by what else they write.
func TestLostAnswerOfALoser(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	update(t, s, func(tx *Tx) error { return tx.PutProject(Project{ID: "p1"}) })
	create := func(id string) func(tx *Tx) error {
		return func(tx *Tx) error {
			project, err := tx.Project("p1")
			if err != nil {
				return err
			}
			project.Containers++
			return errors.Join(tx.PutProject(project), tx.PutContainer(Container{ID: id, ProjectID: "p1"}))
		}
	}
	lossy, arm := interfered(t, s, bound)
	arm(func(func() error) error {
		update(t, s, create("c2")) // the project's record becomes just what the lost one would have made of it
		return rpctypes.ErrGRPCTimeout
	})
	if _, err := lossy.Update(testContext(t), create("c1")); err != nil {
		t.Fatal(err)
	}
	project, err := s.GetProject(testContext(t), "p1")
	if err != nil || project.Containers != 2 {
		t.Errorf("the project counts %d containers, want 2: %v", project.Containers, err)
	}
	if _, err := s.GetContainer(testContext(t), "c1"); err != nil {
		t.Error(err)
	}
}

func TestOutcomeUnknown(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	update(t, s, func(tx *Tx) error { return tx.PutProject(Project{ID: "p1"}) })
	lossy, arm := interfered(t, s, time.Second)
	drop := func(func() error) error { return rpctypes.ErrGRPCTimeout }
	always := make([]interference, 1000)
	for i := range always {
		always[i] = drop
	}
	arm(always...)
	revision, err := lossy.Update(testContext(t), func(tx *Tx) error {
		project, err := tx.Project("p1")
		project.Alias = "new"
		return errors.Join(err, tx.PutProject(project))
	})
	if revision != 0 || !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("revision %d, %v; want an unknown outcome", revision, err)
	}
}

// A read that lands on a member which lags behind is repeated. It is no reason for a writer in his turn to wait for his turn.
func TestAReadFailsInTheWritersTurn(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	update(t, s, func(tx *Tx) error { return tx.PutProject(Project{ID: "p1"}) })
	var failing atomic.Bool
	intercept := func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		// A transaction reads by transactions that compare nothing.
		if txn, ok := request.(*etcdserverpb.TxnRequest); ok && len(txn.Compare) == 0 && failing.CompareAndSwap(true, false) {
			return rpctypes.ErrGRPCFutureRev
		}
		return invoke(ctx, method, request, reply, conn, opts...)
	}
	lagging := beside(t, s, func(o *Options) {
		o.UpdateTimeout = 5 * time.Second // and not a test's bound: that it waits is what must not be
		o.dialOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(intercept)}
	})
	runs := 0
	if _, err := lagging.Update(testContext(t), func(tx *Tx) error {
		runs++
		if runs == 2 { // in its turn, after a conflict
			failing.Store(true)
		}
		project, err := tx.Project("p1")
		if err != nil {
			return err
		}
		if runs == 1 {
			update(t, s, func(tx *Tx) error { return tx.PutProject(Project{ID: "p1", Color: "another's"}) })
		}
		project.Alias = "new"
		return tx.PutProject(project)
	}); err != nil || runs < 3 {
		t.Errorf("%v after %d runs", err, runs)
	}
}

// A member that is cut off from its leader refuses, since every request says that it needs one, and is asked no more: another one answers, or soon
// this one.
func TestNoLeaderForAWhile(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	update(t, s, func(tx *Tx) error { return tx.PutProject(Project{ID: "p1"}) })
	for name, compares := range map[string]bool{"reading": false, "committing": true} {
		var refusals atomic.Int32
		intercept := func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			if sent, _ := metadata.FromOutgoingContext(ctx); len(sent.Get(rpctypes.MetadataRequireLeaderKey)) == 0 {
				t.Errorf("%s may be answered without a leader", method)
			}
			if txn, ok := request.(*etcdserverpb.TxnRequest); ok && (len(txn.Compare) > 0) == compares && refusals.Add(1) <= 2 {
				return rpctypes.ErrGRPCNoLeader
			}
			return invoke(ctx, method, request, reply, conn, opts...)
		}
		isolated := beside(t, s, func(o *Options) { o.dialOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(intercept)} })
		update(t, isolated, func(tx *Tx) error {
			project, err := tx.Project("p1")
			project.Containers++
			return errors.Join(err, tx.PutProject(project))
		})
		if refusals.Load() < 3 {
			t.Errorf("%s: only %d requests", name, refusals.Load())
		}
	}
	if project, err := s.GetProject(testContext(t), "p1"); err != nil || project.Containers != 2 {
		t.Errorf("%d containers counted, want 2: %v", project.Containers, err)
	}
}

// One member of three is cut off from the others for good. gRPC asks it each third time, which no transaction may notice.
func TestAMemberThatNeverHasALeader(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	update(t, s, func(tx *Tx) error { return tx.PutProject(Project{ID: "p1"}) })
	var requests atomic.Int32
	cutOff := func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if requests.Add(1)%3 == 0 {
			return rpctypes.ErrGRPCNoLeader
		}
		return invoke(ctx, method, request, reply, conn, opts...)
	}
	cluster := beside(t, s, func(o *Options) {
		o.Endpoints = append(o.Endpoints, o.Endpoints...)
		o.dialOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(cutOff)}
	})
	runs := 0
	for range 10 {
		update(t, cluster, func(tx *Tx) error {
			runs++
			project, err := tx.Project("p1")
			project.Containers++
			return errors.Join(err, tx.PutContainer(Container{ID: fmt.Sprint(project.Containers)}), tx.PutProject(project))
		})
	}
	if runs != 10 {
		t.Errorf("ten transactions ran %d times", runs)
	}
}

// An etcd that may leave out changes is not opened.
func TestOldEtcd(t *testing.T) {
	t.Parallel()
	for version, refused := range map[string]bool{
		"3.4.23": true, "3.5.12": true, "3.5.13": false, "3.5.13-build": false, "3.5.16": false, "3.6.0-rc.0": false, "3.7.3": false, "4.0.0": false, "new": true,
	} {
		if err := checkVersion("https://etcd", version); errors.Is(err, errdefs.ErrUnsupported) != refused {
			t.Errorf("%s: %v", version, err)
		}
	}
	etcd := newRemote(t)
	say := func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		err := invoke(ctx, method, request, reply, conn, opts...)
		if status, ok := reply.(*etcdserverpb.StatusResponse); ok {
			status.Version = "3.4.23"
		}
		return err
	}
	options := Options{Endpoints: etcd.options.Listen, TLS: etcd.client, ServerID: "s2", Instance: "machine-2", dialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(say)}}
	if _, err := Open(testContext(t), options); !errors.Is(err, errdefs.ErrUnsupported) {
		t.Errorf("opened: %v", err)
	}
	if _, err := Ping(testContext(t), options); !errors.Is(err, errdefs.ErrUnsupported) {
		t.Errorf("answers: %v", err)
	}
	options.dialOptions = nil
	if pong, err := Ping(testContext(t), options); err != nil || pong.Took == 0 || pong.Kept != 0 {
		t.Errorf("%+v, %v", pong, err)
	}
}

// What passes must not end an operation.
func TestWhatPasses(t *testing.T) {
	for _, err := range []error{rpctypes.ErrGRPCRequestTooManyRequests, rpctypes.ErrTooManyRequests, rpctypes.ErrGRPCNoLeader, status.Error(codes.Unknown, "raft proposal dropped"),
		status.Error(codes.Unknown, "unexpected HTTP status code received from server: 200 (OK); malformed header: missing HTTP content-type"),
		rpctypes.ErrNotCapable, rpctypes.ErrGRPCNotSupportedForLearner, rpctypes.ErrAuthOldRevision,
		status.Error(codes.ResourceExhausted, "stream terminated by RST_STREAM with error code: ENHANCE_YOUR_CALM"),
		status.Error(codes.Internal, "stream terminated by RST_STREAM with error code: PROTOCOL_ERROR"),
	} {
		if class := etcdClass(err); class != errdefs.ErrUnavailable {
			t.Errorf("%v is %v", err, class)
		}
	}
	if class := etcdClass(status.Error(codes.ResourceExhausted, "trying to send message larger than max (3000000 vs. 2097152)")); !errors.Is(class, ErrTooLarge) {
		t.Errorf("a message that is too large is %v", class)
	}
	if class := etcdClass(errors.New("ours")); class != errdefs.ErrInternal {
		t.Errorf("an error that is not etcd's is %v", class)
	}
}

// etcd answers "no space" to what has brought it to its quota, too, and that is written.
func TestAWriteThatFillsTheStore(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	update(t, s, func(tx *Tx) error { return tx.PutProject(Project{ID: "p1"}) })
	lossy, arm := interfered(t, s, 10*time.Second)
	rename := func(alias string) (int64, error) {
		return lossy.Update(testContext(t), func(tx *Tx) error {
			project, err := tx.Project("p1")
			project.Alias = alias
			return errors.Join(err, tx.PutProject(project))
		})
	}
	arm(func(forward func() error) error {
		if err := forward(); err != nil {
			return err
		}
		return rpctypes.ErrGRPCNoSpace
	})
	if revision, err := rename("written"); err != nil || revision == 0 {
		t.Errorf("written at %d, %v", revision, err)
	}
	arm(func(func() error) error { return rpctypes.ErrGRPCNoSpace })
	if revision, err := rename("refused"); !errors.Is(err, ErrFull) || revision != 0 {
		t.Errorf("written at %d, %v; want it refused", revision, err)
	}
}
