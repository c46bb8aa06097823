package modeltest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// findings collects what differs, so that one failure shows all of it.
type findings []string

func (f *findings) add(format string, args ...any) { *f = append(*f, fmt.Sprintf(format, args...)) }

func (f findings) err() error {
	if len(f) == 0 {
		return nil
	}
	return fmt.Errorf("the fleet is not as the model has it:\n  %s: %w", strings.Join(f, "\n  "), errdefs.ErrCorrupt)
}

// check compares the settled fleet with the model: records, pools and the files of all containers; with deep, the files of
// every listed snapshot, too.
func (d *driver) check(ctx context.Context, deep bool) error {
	var wrong findings
	inventories, err := d.inventories(ctx)
	if err != nil {
		return err
	}
	records := make(map[string]store.Container)
	for _, record := range d.records.Mirror().Containers() {
		records[d.nameOf(record.ID)] = *record
	}
	for name := range records {
		if d.model.containers[name] == nil {
			wrong.add("%s is there (%s) and should not be", name, records[name].Status)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.model.containers)) {
		record, exists := records[name]
		if !exists {
			wrong.add("%s is not there", name)
			continue
		}
		c := d.model.containers[name]
		if err := d.checkContainer(ctx, &wrong, name, c, record); err != nil {
			return fmt.Errorf("check %s: %w", name, err)
		}
		d.checkSnapshots(&wrong, name, c, record, lineage.Locate(inventories[c.server]))
	}
	for i, inventory := range inventories {
		for _, dataset := range inventory.Datasets {
			if strings.HasPrefix(dataset.Name, "hoody/incoming/") || dataset.ResumeToken != "" {
				wrong.add("server %d: %s is left", i, dataset.Name)
			}
		}
	}
	if deep && len(wrong) == 0 {
		if err := d.checkContents(ctx, &wrong); err != nil {
			return err
		}
	}
	return wrong.err()
}

func (d *driver) inventories(ctx context.Context) ([]lineage.Inventory, error) {
	all := make([]lineage.Inventory, len(d.servers))
	for i, s := range d.servers {
		var err error
		if all[i], err = s.pool.Inventory(ctx); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// checkContainer compares a container's record, instance and files.
func (d *driver) checkContainer(ctx context.Context, wrong *findings, name string, c *container, record store.Container) error {
	if record.Status != c.status {
		wrong.add("%s is %s (%s), want %s", name, record.Status, record.FailureReason, c.status)
	}
	if record.ServerID != d.servers[c.server].id || record.SourceContainerID != d.ids[c.source] {
		wrong.add("%s is on %s, a copy of %q", name, record.ServerID, record.SourceContainerID)
	}
	if len(record.PendingFreezes) > 0 || record.JobID != "" {
		wrong.add("%s is held by job %q, claimed by %v", name, record.JobID, record.PendingFreezes)
	}
	s := d.servers[c.server]
	instance := agent.InstanceName(record.ID)
	found, err := readFiles(ctx, s.pool, agent.InstanceDataset(instance))
	if err != nil {
		wrong.add("%s: its files cannot be read: %v", name, err)
		return nil
	}
	if diff := difference(found, c.files); diff != "" {
		wrong.add("%s: %s", name, diff)
	}
	seen, err := s.runtime.Instance(ctx, instance)
	if err != nil {
		return err
	}
	if status := statusOf(seen.Status); status != c.status {
		wrong.add("%s: its instance is %s, want %s", name, seen.Status, c.status)
	}
	d.model.adopt(c, seen.Snapshots)
	var byHand []string
	for _, s := range c.byHand {
		byHand = append(byHand, s.name)
	}
	if !slices.Equal(byHand, seen.Snapshots) {
		wrong.add("%s: the runtime lists snapshots %v, want %v", name, seen.Snapshots, byHand)
	}
	return nil
}

func statusOf(status agent.InstanceStatus) store.Status {
	switch status {
	case agent.InstanceRunning:
		return store.StatusRunning
	case agent.InstancePaused:
		return store.StatusPaused
	case agent.InstanceStopped:
		return store.StatusStopped
	default:
		return store.StatusFailed
	}
}

// adopt moves the runtime's snapshots of a container that the runtime no longer lists to those that the container lists.
func (m *Model) adopt(c *container, listed []string) {
	var kept []snapshot
	for _, s := range c.byHand {
		if slices.Contains(listed, s.name) {
			kept = append(kept, s)
		} else {
			c.snapshots = append(slices.Clone(c.snapshots), s)
		}
	}
	c.byHand = kept
}

// checkSnapshots compares what a container lists with what it should list, and with what its pool holds.
func (d *driver) checkSnapshots(wrong *findings, name string, c *container, record store.Container, held map[lineage.GUID]string) {
	history, ok := d.records.Mirror().History(record.ID)
	if !ok {
		history = &store.History{}
	}
	listed := make(map[string]store.Snapshot)
	for _, s := range history.Snapshots {
		listed[d.modelName(c, s)] = s
	}
	for _, s := range c.snapshots {
		found, exists := listed[s.name]
		delete(listed, s.name)
		if !exists && s.perhaps {
			c.drop(func(other snapshot) bool { return other.name == s.name })
			continue
		}
		if !exists {
			wrong.add("%s does not list %s", name, s.name)
			continue
		}
		c.settle(s.name)
		if known := d.guids[s.at]; known != 0 && known != found.GUID {
			wrong.add("%s: snapshot %s is another than it was", name, s.name)
		}
		d.guids[s.at] = found.GUID
		if found.Undo != s.undo || (found.ExpiresAt != nil) != s.expires {
			wrong.add("%s: snapshot %s is automatic: %t, expires %v", name, s.name, found.Undo, found.ExpiresAt)
		}
		if _, there := held[found.GUID]; !there {
			wrong.add("%s lists %s, which is not in the pool", name, s.name)
		}
	}
	for other := range listed {
		wrong.add("%s lists %s and should not", name, other)
	}
}

// settle notes that a snapshot which may be listed is.
func (c *container) settle(name string) {
	c.snapshots = slices.Clone(c.snapshots)
	for i := range c.snapshots {
		if c.snapshots[i].name == name {
			c.snapshots[i].perhaps = false
		}
	}
}

// modelName is what the model calls a listed snapshot. An automatic one that is not known yet is the newest of the model's.
func (d *driver) modelName(c *container, listed store.Snapshot) string {
	for _, s := range c.snapshots {
		if d.guids[s.at] == listed.GUID {
			return s.name
		}
	}
	for _, s := range c.snapshots {
		if s.undo && listed.Undo && d.guids[s.at] == 0 {
			return s.name
		}
	}
	return listed.Name
}

// checkContents looks into every snapshot that some container lists, through a clone.
func (d *driver) checkContents(ctx context.Context, wrong *findings) error {
	type place struct {
		server int
		guid   lineage.GUID
	}
	seen := make(map[place]bool)
	for _, name := range slices.Sorted(maps.Keys(d.model.containers)) {
		c := d.model.containers[name]
		for _, s := range c.snapshots {
			at := place{c.server, d.guids[s.at]}
			if seen[at] {
				continue
			}
			seen[at] = true
			found, err := d.lookInto(ctx, d.servers[c.server].pool, at.guid)
			if err != nil {
				return fmt.Errorf("look into %s of %s: %w", s.name, name, err)
			}
			if diff := difference(found, s.at.files); diff != "" {
				wrong.add("snapshot %s of %s: %s", s.name, name, diff)
			}
		}
	}
	return nil
}

// lookInto reads a snapshot's files through a clone of it, out of the agent's way. A collection may move it meanwhile.
func (d *driver) lookInto(ctx context.Context, pool agent.Pool, guid lineage.GUID) (map[string]string, error) {
	const clone = "test/look"
	for attempt := 1; ; attempt++ {
		inventory, err := pool.Inventory(ctx)
		if err != nil {
			return nil, err
		}
		name, held := lineage.Locate(inventory)[guid]
		if !held {
			return nil, fmt.Errorf("snapshot %s is not in the pool", guid)
		}
		err = pool.Clone(ctx, name, clone, nil)
		if errors.Is(err, errdefs.ErrNotFound) && attempt < 10 {
			continue
		}
		if err != nil {
			return nil, err
		}
		found, err := readFiles(ctx, pool, clone)
		return found, errors.Join(err, pool.Destroy(ctx, clone))
	}
}

// difference says how files that were found are not as they should be; empty when they are.
func difference(found map[string]string, want files) string {
	var wrong []string
	for name, data := range found {
		value, expected := want[name]
		if !expected {
			value = "nothing"
		}
		if !expected || !holds(data, name, value) {
			first, _, _ := strings.Cut(data, "\n")
			wrong = append(wrong, fmt.Sprintf("file %s holds %q, want %s", name, first, value))
		}
	}
	for name, value := range want {
		if _, exists := found[name]; !exists {
			wrong = append(wrong, fmt.Sprintf("file %s is missing, want %s", name, value))
		}
	}
	slices.Sort(wrong)
	return strings.Join(wrong, ", ")
}
