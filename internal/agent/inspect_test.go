package agent

import (
	"slices"
	"strings"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// wholeScene has one container with instance, files and a snapshot.
func wholeScene() scene {
	id := recoveredID
	return scene{
		inventory: lineage.Inventory{Datasets: []lineage.Dataset{
			{Name: InstanceDataset(InstanceName(id)), Properties: map[string]string{propertyContainer: id}, Snapshots: []lineage.Snapshot{{Name: "s", GUID: 7}}},
			{Name: "hoody/generations/0123", Properties: map[string]string{propertyContainer: "long-gone"}},
		}},
		instances:  []Instance{{Name: InstanceName(id), ContainerID: id}},
		containers: []*store.Container{{ID: id, Name: "web", Status: store.StatusRunning}},
		histories:  map[string]*store.History{id: {Snapshots: []store.Snapshot{{Name: "one", GUID: 7}}}},
		jobs:       map[string]*store.Job{},
	}
}

func TestInspect(t *testing.T) {
	id := recoveredID
	for name, test := range map[string]struct {
		change func(*scene)
		codes  string // of the findings
		failed string // reason the container fails for
		found  bool
	}{
		"in order":        {func(*scene) {}, "", "", false},
		"no instance":     {func(s *scene) { s.instances = nil }, FindingInstanceGone, reasonInstanceGone, false},
		"no files":        {func(s *scene) { s.inventory.Datasets[0].Name = "elsewhere" }, FindingFilesGone, reasonFilesGone, false},
		"another's files": {func(s *scene) { s.inventory.Datasets[0].Properties = nil }, FindingFilesGone, reasonFilesGone, false},
		"renamed":         {func(s *scene) { s.instances[0].Name = "mine" }, FindingInstanceGone + " " + FindingInstanceRenamed, reasonInstanceGone, false},
		"copied":          {func(s *scene) { s.instances = append(s.instances, Instance{Name: "mine", ContainerID: id}) }, FindingInstanceCopied, "", false},
		"a job works": {func(s *scene) {
			s.containers[0].JobID = "j"
			s.instances = nil
			s.inventory.Datasets = nil
			s.histories = nil
		}, "", "", false},
		"failed otherwise": {func(s *scene) { s.containers[0].Status = store.StatusFailed; s.instances = nil }, "", "", false},
		"known to be gone": {func(s *scene) {
			s.containers[0].Status, s.containers[0].FailureReason, s.instances = store.StatusFailed, reasonInstanceGone, nil
		}, FindingInstanceGone, "", false},
		"back again": {func(s *scene) {
			s.containers[0].Status, s.containers[0].FailureReason = store.StatusFailed, reasonInstanceGone
		}, "", "", true},
		"no snapshot": {func(s *scene) { s.inventory.Datasets[0].Snapshots = nil }, FindingSnapshotGone, "", false},
		"no record":   {func(s *scene) { s.containers = nil }, FindingFilesUnknown + " " + FindingInstanceUnknown, "", false},
		"put aside by the runtime": {func(s *scene) {
			s.instances, s.inventory.Datasets[0].Name = nil, "deleted/containers/x"
		}, FindingFilesDeleted + " " + FindingFilesGone + " " + FindingInstanceGone, reasonAllGone, false},
		"a job's leftover": {func(s *scene) {
			s.inventory.Datasets = append(s.inventory.Datasets, lineage.Dataset{Name: "hoody/incoming/j1-0000"}, lineage.Dataset{Name: "hoody/incoming/j2"})
			s.jobs["j2"] = &store.Job{}
		}, FindingJobLeftover, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			seen := wholeScene()
			test.change(&seen)
			got := inspect(seen)
			var codes []string
			for _, finding := range got.findings {
				codes = append(codes, finding.Code)
				if finding.Object == "" || finding.Text == "" || finding.Hint == "" {
					t.Errorf("%+v does not say what to do about what", finding)
				}
			}
			slices.Sort(codes)
			if strings.Join(codes, " ") != test.codes || got.failed[id] != test.failed || (len(got.found) > 0) != test.found {
				t.Errorf("got %q, %v, %v; want %q, %q, %v", codes, got.failed, got.found, test.codes, test.failed, test.found)
			}
		})
	}
}
