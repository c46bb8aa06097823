package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// The pool is stamped with the store that its records are in. An empty, old or wrong store would make everything in the
// pool look like leftovers; the stamp is how the agent notices before it believes such a store.

// propertyStamp is set on poolParent: "<store id>/<server id>/<store revision>", one property so that it changes at once.
const propertyStamp = "hoody:stamp"

// propertyRecovered is set on poolParent by a recovery: when it was, as RFC 3339 has it, or recoveredJustNow.
const propertyRecovered = "hoody:recovered"

// poolParent holds everything of the agent's own in the pool.
const poolParent = "hoody"

// stamp says whose records describe a pool, and how far they had come when it was last written.
type stamp struct {
	store, server string
	revision      int64
}

func (s stamp) String() string { return fmt.Sprintf("%s/%s/%d", s.store, s.server, s.revision) }

func parseStamp(text string) (stamp, error) {
	parts := strings.Split(text, "/")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" {
		return stamp{}, fmt.Errorf("stamp %q: %w", text, errdefs.ErrCorrupt)
	}
	revision, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil {
		return stamp{}, fmt.Errorf("stamp %q: %w: %w", text, errdefs.ErrCorrupt, err)
	}
	return stamp{store: parts[0], server: parts[1], revision: revision}, nil
}

// The ways in which records and pool do not belong together.
const (
	FindingPoolNotStamped   = "pool-not-stamped"
	FindingOtherStore       = "pool-of-another-store"
	FindingOtherServer      = "pool-of-another-server"
	FindingRecordsOlder     = "records-older-than-pool"
	FindingStampNotReadable = "pool-stamp-not-readable"
)

const recoverHint = "Containers go on and new ones can be made; nothing is removed or taken up again. " +
	"Stop the agent and look at `hoody-agent recover`; with --apply it puts the records in order."

// judgeStamp compares the stamp on the pool with the store's own; nil means that they belong together. noted is the
// revision that the store says the pool was stamped with, 0 for none.
func judgeStamp(onPool string, storeID, serverID string, noted int64) *Finding {
	distrust := func(code, format string, args ...any) *Finding {
		return &Finding{Code: code, Object: poolParent, Text: fmt.Sprintf(format, args...), Hint: recoverHint}
	}
	if onPool == "" {
		return distrust(FindingPoolNotStamped, "the pool does not carry the stamp that says whose records describe it, and it or the records have containers")
	}
	s, err := parseStamp(onPool)
	switch {
	case err != nil:
		return distrust(FindingStampNotReadable, "the pool's stamp cannot be read: %v", err)
	case s.store != storeID:
		return distrust(FindingOtherStore, "the pool belongs to store %s, the records here are of store %s", s.store, storeID)
	case s.server != serverID:
		return distrust(FindingOtherServer, "the pool belongs to server %s, this is server %s", s.server, serverID)
	case noted < s.revision:
		return distrust(FindingRecordsOlder, "the pool was stamped at revision %d of the store, which knows of %d only: it was put back to an older state", s.revision, noted)
	}
	return nil
}

// holdsAgentData tells whether anything of an agent's is in the pool besides the empty places for it.
func holdsAgentData(inventory lineage.Inventory) bool {
	for _, dataset := range inventory.Datasets {
		below := strings.HasPrefix(dataset.Name, incomingPrefix) || strings.HasPrefix(dataset.Name, generationsPrefix)
		if below || dataset.Properties[propertyContainer] != "" {
			return true
		}
	}
	return false
}

// checkStamp compares pool and records at the start. A pool without anything of an agent's is stamped, unless records say that
// containers have files here: then it is another pool, or was made anew. An error means that the comparison failed; a mismatch
// is no error, see Degraded.
func (a *Agent) checkStamp(ctx context.Context) error {
	inventory, err := a.pool.Inventory(ctx)
	if err != nil {
		return err
	}
	parent, _ := inventory.Dataset(poolParent)
	if parent.Properties[propertyStamp] == "" && !holdsAgentData(inventory) && !a.expectsFiles() {
		a.log.Info("new pool; stamps it", zap.String("store", a.store.StoreID()))
		return a.writeStamp(ctx)
	}
	if err := a.trusted(ctx); err != nil && a.Degraded() == nil {
		return err
	}
	return nil
}

// expectsFiles tells whether any container of this server has files, as far as the records say.
func (a *Agent) expectsFiles() bool {
	return slices.ContainsFunc(a.store.Mirror().ContainersOnServer(a.serverID), func(c *store.Container) bool { return hasFiles(c, a.serverID) })
}

// hasFiles tells whether a container's files are in the pool of a server, as far as its record says.
func hasFiles(c *store.Container, serverID string) bool {
	return c.ServerID == serverID && c.Generation != (store.Generation{})
}

// trusted tells whether the records in the store are those of this pool: nil when they are. Whatever destroys or takes
// back for want of a record asks first. errdefs.ErrFailedPrecondition says that they are not, until `recover`; any other
// error that it cannot be told now.
func (a *Agent) trusted(ctx context.Context) error {
	// The pool is read before the store: the stamp is written to the store first, so the store is never behind in good order.
	parent, err := a.pool.Dataset(ctx, poolParent)
	if err != nil {
		return fmt.Errorf("read the pool's stamp: %w", err)
	}
	noted, err := notedStamp(ctx, a.store, a.serverID)
	if err != nil {
		return fmt.Errorf("read the store's stamp: %w", err)
	}
	found := judgeStamp(parent.Properties[propertyStamp], a.store.StoreID(), a.serverID, noted)
	a.setDegraded(found)
	if found != nil {
		return errdefs.New(errdefs.ErrFailedPrecondition, "", "%s", found.Text)
	}
	return nil
}

// notedStamp reads the store's side, linearizably; 0 for none.
func notedStamp(ctx context.Context, records *store.Store, serverID string) (noted int64, err error) {
	_, err = records.Update(ctx, func(tx *store.Tx) error {
		known, err := tx.Stamp(serverID)
		if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			return err
		}
		noted = known.Revision
		return nil
	})
	return noted, err
}

// writeStamp stamps the pool as belonging to this store and this server: first the store's side, then the pool's.
func (a *Agent) writeStamp(ctx context.Context) error {
	revision, err := noteStamp(ctx, a.store, a.serverID, 0)
	if err != nil {
		return err
	}
	return a.pool.SetProperties(ctx, poolParent, stampProperties(a.store, a.serverID, revision))
}

// noteStamp writes the store's side of a stamp and returns its revision, least or later. It goes on with each call, so that
// an older state of the store is always seen to be one.
func noteStamp(ctx context.Context, records *store.Store, serverID string, least int64) (noted int64, err error) {
	revision := max(records.Mirror().Revision(), least)
	_, err = records.Update(ctx, func(tx *store.Tx) error {
		known, err := tx.Stamp(serverID)
		if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			return err
		}
		noted = max(known.Revision+1, revision)
		return tx.PutStamp(store.Stamp{ServerID: serverID, Revision: noted})
	})
	return noted, err
}

func stampProperties(records *store.Store, serverID string, revision int64) Properties {
	return Properties{propertyStamp: stamp{store: records.StoreID(), server: serverID, revision: revision}.String()}
}

// Degraded tells why the agent does not trust its records; nil while it does.
func (a *Agent) Degraded() *Finding {
	a.degraded.mu.Lock()
	defer a.degraded.mu.Unlock()
	return a.degraded.finding
}

// setDegraded notes the outcome of a check, and says so where it changed.
func (a *Agent) setDegraded(found *Finding) {
	a.degraded.mu.Lock()
	defer a.degraded.mu.Unlock()
	was := a.degraded.finding
	switch {
	case found == nil && was != nil:
		a.log.Info("records and pool belong together again")
		a.degraded.suspended = nil
		select {
		case a.degraded.over <- struct{}{}:
		default:
		}
	case found != nil && (was == nil || was.Code != found.Code):
		found.Since = a.now()
		a.log.Error("RECORDS NOT TRUSTED: garbage collection and reconcile are read-only", zap.String("code", found.Code), zap.String("reason", found.Text), zap.String("hint", found.Hint))
	case found != nil:
		found.Since = was.Since
	}
	a.degraded.finding = found
}

// trustPause is the pause before records and pool are compared again, where that could not be done.
const trustPause = time.Second

// suspendReturned is for records that were all read anew while the agent runs: somebody may have put an old state of the store
// back. An error means that it is not known.
func (a *Agent) suspendReturned(ctx context.Context, atWork func(jobID string) bool) error {
	if err := a.trusted(ctx); err != nil && a.Degraded() == nil {
		return err
	}
	a.suspendOpenJobs(atWork)
	return nil
}

// suspendOpenJobs keeps the agent from continuing jobs that it finds in records that are not the pool's: they may have been
// done long ago, and doing them again, or undoing them, would do away with what came after. `recover` ends them. Jobs that
// the agent works on already go on; a nil atWork says that there are none.
func (a *Agent) suspendOpenJobs(atWork func(jobID string) bool) {
	if a.Degraded() == nil {
		return
	}
	for _, job := range a.store.Mirror().OpenJobs(a.serverID) {
		if atWork != nil && atWork(job.ID) {
			continue
		}
		a.degraded.mu.Lock()
		if a.degraded.finding == nil { // trusted again meanwhile
			a.degraded.mu.Unlock()
			return
		}
		known := a.degraded.suspended[job.ID]
		if a.degraded.suspended == nil {
			a.degraded.suspended = make(map[string]bool)
		}
		a.degraded.suspended[job.ID] = true
		a.degraded.mu.Unlock()
		if known {
			continue
		}
		a.log.Warn("job is not continued", zap.String("job", job.ID), zap.String("kind", string(job.Kind)), zap.String("container", job.ContainerID))
	}
}

// refuseSuspended says that nothing can wait for a job that this agent does not continue.
func (a *Agent) refuseSuspended(jobID string) error {
	a.degraded.mu.Lock()
	defer a.degraded.mu.Unlock()
	if a.degraded.suspended[jobID] {
		return stateConflict("The operation in progress is neither continued nor cancelled until an operator has recovered the server's records")
	}
	return nil
}

// recoveredJustNow stands for the time of a recovery until there is a clock to believe: a host that was made anew may have none.
const recoveredJustNow = "now"

// recoveredAt is when the pool's records were last recovered, as long as that is noted on it; now where the time is still to be written down.
func recoveredAt(inventory lineage.Inventory, now time.Time) (at time.Time, noted bool) {
	parent, _ := inventory.Dataset(poolParent)
	if parent.Properties[propertyRecovered] == recoveredJustNow {
		return now, true
	}
	at, err := time.Parse(time.RFC3339, parent.Properties[propertyRecovered])
	return at, err == nil
}
