package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

const recoveredID = "64c1aa00b2d34e5f60710001"

var recoveryNow = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

// lostContainer are the facts of one container whole in pool and runtime, with its record file, and an empty store.
func lostContainer() recoveryFacts {
	id := recoveredID
	container := store.Container{
		ID: id, ProjectID: "p1", OwnerID: "u1", ServerID: "s1", Name: "web", Status: store.StatusRunning, UpdatedAt: recoveryNow.Add(-time.Hour), SnapshotCount: 1,
		Generation: store.Generation{Marker: store.SnapshotRef{GUID: 11, Name: "hoody-a-marker"}, Base: 5},
	}
	project := store.Project{ID: "p1", UserID: "u1", Alias: "prod"}
	return recoveryFacts{
		serverID: "s1", storeID: "new", stamp: "old/s1/9", now: recoveryNow,
		distrust: &Finding{Code: FindingOtherStore},
		inventory: lineage.Inventory{Datasets: []lineage.Dataset{{
			Name: InstanceDataset(InstanceName(id)), Properties: map[string]string{propertyContainer: id, propertyOwner: "u1", propertyRole: roleGeneration},
			Snapshots: []lineage.Snapshot{{Name: "hoody-a-marker", GUID: 11, CreateTXG: 100}, {Name: "hoody-user", GUID: 12, CreateTXG: 110}, {Name: "hoody-f-freeze", GUID: 13, CreateTXG: 120}},
		}}},
		instances: map[string]Instance{id: {Name: InstanceName(id), ContainerID: id, Description: "web", Status: InstanceRunning}},
		files: map[string]recordFile{id: newRecordFile(container,
			store.History{Snapshots: []store.Snapshot{{Name: "one", GUID: 12, CreatedAt: recoveryNow.Add(-2 * time.Hour)}}}, project)},
		containers: map[string]store.Container{}, histories: map[string]store.History{}, projects: map[string]store.Project{}, tombstones: map[string]store.Tombstone{},
		claimed: func(store.UniqueKind, string, string) string { return "" },
	}
}

// recorded adds the store's own record of the container.
func (f *recoveryFacts) recorded(change func(*store.Container)) {
	file := f.files[recoveredID]
	container := file.Container
	change(&container)
	f.containers[recoveredID] = container
	f.histories[recoveredID] = store.History{ContainerID: recoveredID, Snapshots: file.Snapshots}
	f.projects["p1"] = file.Project
}

func TestPlanRecovery(t *testing.T) {
	for name, test := range map[string]struct {
		change  func(*recoveryFacts)
		verdict RecoveryVerdict
		status  store.Status // empty when nothing is written
		says    string       // in the conflicts, changes or what is unknown
	}{
		"record file": {func(*recoveryFacts) {}, VerdictRestored, store.StatusRunning, ""},
		"stopped meanwhile": {func(f *recoveryFacts) {
			instance := f.instances[recoveredID]
			instance.Status = InstanceStopped
			f.instances[recoveredID] = instance
		}, VerdictRestored, store.StatusStopped, ""},
		"no file":                   {func(f *recoveryFacts) { f.files = nil }, VerdictRebuilt, store.StatusRunning, "SSH key"},
		"no file, nobody's dataset": {func(f *recoveryFacts) { f.files = nil; delete(f.inventory.Datasets[0].Properties, propertyOwner) }, VerdictNotTouched, "", "whose"},
		"an instance and nothing else": {func(f *recoveryFacts) { f.files, f.inventory.Datasets = nil, nil },
			VerdictNotTouched, "", "neither files"},
		"a file and nothing else":  {func(f *recoveryFacts) { f.instances, f.inventory.Datasets = nil, nil }, VerdictNotTouched, "", "nothing of it"},
		"no instance":              {func(f *recoveryFacts) { f.instances = nil }, VerdictRestored, store.StatusFailed, ""},
		"files moved aside":        {func(f *recoveryFacts) { f.inventory.Datasets[0].Name = "hoody/generations/j1" }, VerdictRestored, store.StatusRunning, ""},
		"never finished":           {func(f *recoveryFacts) { f.inventory.Datasets[0].Snapshots = nil }, VerdictRestored, store.StatusFailed, "snapshot one is gone"},
		"deleted on purpose":       {func(f *recoveryFacts) { f.tombstones[recoveredID] = store.Tombstone{Container: true} }, VerdictDeleted, "", ""},
		"the same in the store":    {func(f *recoveryFacts) { f.recorded(func(*store.Container) {}) }, VerdictInOrder, store.StatusRunning, ""},
		"another server's":         {func(f *recoveryFacts) { f.recorded(func(c *store.Container) { c.ServerID = "s2" }) }, VerdictNotTouched, "", "server s2"},
		"known to be gone":         {func(f *recoveryFacts) { f.distrust, f.instances, f.inventory.Datasets = nil, nil, nil }, VerdictDeleted, "", ""},
		"made up for want of a id": {func(f *recoveryFacts) { f.formerID = "s0"; f.recorded(func(c *store.Container) { c.ServerID = "s0" }) }, VerdictCorrected, store.StatusRunning, "server"},
		"an older generation in the store": {func(f *recoveryFacts) {
			f.recorded(func(c *store.Container) {
				c.UpdatedAt, c.Generation = recoveryNow.Add(-3*time.Hour), store.Generation{Marker: store.SnapshotRef{GUID: 1}}
			})
		}, VerdictCorrected, store.StatusRunning, "generation"},
		"an older generation in the newer record": {func(f *recoveryFacts) {
			f.recorded(func(c *store.Container) {
				c.UpdatedAt, c.Generation = recoveryNow, store.Generation{Marker: store.SnapshotRef{GUID: 1}}
			})
		}, VerdictCorrected, store.StatusRunning, "generation"},
		"a job of the past": {func(f *recoveryFacts) {
			f.jobs = []store.Job{{ID: "j1", ServerID: "s1"}}
			f.recorded(func(c *store.Container) { c.JobID, c.Status = "j1", store.StatusCopying })
		}, VerdictCorrected, store.StatusRunning, "operation"},
		"a job of now": {func(f *recoveryFacts) {
			f.distrust, f.jobs = nil, []store.Job{{ID: "j1", ServerID: "s1"}}
			f.recorded(func(c *store.Container) { c.JobID, c.Status = "j1", store.StatusCopying })
		}, VerdictInOrder, store.StatusCopying, ""},
		"a taken name": {func(f *recoveryFacts) {
			f.claimed = func(kind store.UniqueKind, _, value string) string {
				if kind == store.UniqueContainerName && value == "web" {
					return "somebody"
				}
				return ""
			}
		}, VerdictRestored, store.StatusRunning, "web-recovered"},
	} {
		t.Run(name, func(t *testing.T) {
			facts := lostContainer()
			test.change(&facts)
			plan := planRecovery(facts)
			if len(plan.Containers) != 1 {
				t.Fatalf("containers: %+v", plan.Containers)
			}
			got := plan.Containers[0]
			if got.Verdict != test.verdict || got.Status != test.status {
				t.Errorf("got %s, %q; want %s, %q", got.Verdict, got.Status, test.verdict, test.status)
			}
			if said := fmt.Sprint(got.Conflicts, got.Changes, got.Unknown); !strings.Contains(said, test.says) {
				t.Errorf("says %s, want %q", said, test.says)
			}
		})
	}
}

// A swap turns autostart off until its end. Cut off, it must not stay off.
func TestRecoveryTurnsAutostartOnAgain(t *testing.T) {
	for _, instance := range []bool{false, true} {
		facts := lostContainer()
		file := facts.files[recoveredID]
		file.Container.Autostart = true
		facts.files[recoveredID] = file
		found := facts.instances[recoveredID]
		found.Autostart = instance
		facts.instances[recoveredID] = found
		if pending := planRecovery(facts).Containers[0].container.Settings.Pending(); pending == instance {
			t.Errorf("the instance's autostart is %t, and settings are to be applied: %t", instance, pending)
		}
	}
}

// No snapshot that either side lists is dropped, apart from those that were deleted on purpose.
// A store that was put back and went on for a while has the later record, and the file knows which generation is in place.
func TestRecoveryTakesTheGenerationFromWhoKnowsIt(t *testing.T) {
	facts := lostContainer()
	filed := facts.files[recoveredID]
	filed.Container.SyncBase, filed.Container.SSHPublicKey = 7, "ssh-ed25519 AAAAnew"
	facts.files[recoveredID] = filed
	facts.recorded(func(c *store.Container) {
		c.UpdatedAt, c.SyncBase, c.SSHPublicKey = recoveryNow, 3, "ssh-ed25519 AAAAold"
		c.Generation = store.Generation{Marker: store.SnapshotRef{GUID: 1}, Base: 2}
	})
	got := planRecovery(facts).Containers[0].container
	if got.SyncBase != 7 || got.Generation != filed.Container.Generation || got.SSHPublicKey != "ssh-ed25519 AAAAold" {
		t.Errorf("synced with %s, generation %+v, key %s", got.SyncBase, got.Generation, got.SSHPublicKey)
	}
	if len(got.InheritedKeys) != 1 || got.InheritedKeys[0] != "ssh-ed25519 AAAAnew" {
		t.Errorf("keys to take out: %v", got.InheritedKeys)
	}
}

// A promoted generation holds the snapshot that it was made from, right before its marker.
func TestRecoveryFindsTheBaseOfAPromotedGeneration(t *testing.T) {
	facts := lostContainer()
	facts.files = nil
	current := &facts.inventory.Datasets[0]
	current.Snapshots = append([]lineage.Snapshot{{Name: "hoody-old", GUID: 3, CreateTXG: 80}, {Name: "hoody-b-freeze", GUID: 4, CreateTXG: 90}}, current.Snapshots...)
	if got := planRecovery(facts).Containers[0].container.Generation; got.Base != 4 || got.Marker.GUID != 11 {
		t.Errorf("generation %+v, want base 4", got)
	}
}

func TestRecoveryMergesSnapshots(t *testing.T) {
	facts := lostContainer()
	facts.recorded(func(c *store.Container) { c.UpdatedAt = recoveryNow })
	snapshots := &facts.inventory.Datasets[0].Snapshots
	for guid := lineage.GUID(20); guid < 25; guid++ {
		*snapshots = append(*snapshots, lineage.Snapshot{Name: fmt.Sprint("hoody-", guid), GUID: guid, CreateTXG: 200 + uint64(guid), Creation: recoveryNow})
	}
	file := facts.files[recoveredID]
	file.Snapshots = []store.Snapshot{{Name: "one", GUID: 12}, {Name: "two", GUID: 20}, {Name: "deleted", GUID: 21}, {Name: "destroyed", GUID: 99}}
	facts.files[recoveredID] = file
	facts.histories[recoveredID] = store.History{ContainerID: recoveredID, Snapshots: []store.Snapshot{{Name: "one", GUID: 12}, {Name: "two", GUID: 22}}}
	facts.tombstones[recoveredID] = store.Tombstone{ContainerID: recoveredID, Snapshots: []lineage.GUID{21}}
	var listed []string
	for _, snapshot := range planRecovery(facts).Containers[0].history.Snapshots {
		listed = append(listed, fmt.Sprint(snapshot.GUID, " ", snapshot.Name))
	}
	want := "12 one, 22 two, 20 two-2, 23 recovered-20260601-000000, 24 recovered-20260601-000000-2"
	if got := strings.Join(listed, ", "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestRecoveryDoesNotGuessAtWhatItCannotRead(t *testing.T) {
	facts := lostContainer()
	facts.unreadable = []string{"/hoody/v1/containers/x"}
	facts.damaged = map[string]error{"a.json": errdefs.ErrUnsupported, "b.json": errdefs.ErrCorrupt}
	plan := planRecovery(facts)
	if len(plan.Obstacles) != 2 {
		t.Errorf("obstacles: %q", plan.Obstacles)
	}
	if len(plan.damaged) != 1 || plan.damaged[0] != "b.json" {
		t.Errorf("to be put aside: %q", plan.damaged)
	}
}
