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

// check compares the settled fleet with the model: records, pools and the files of those containers that look is true of; with
// deep, the files of every listed snapshot, too.
func (d *driver) check(ctx context.Context, look func(name string) bool, deep bool) error {
	var wrong findings
	if err := d.lookAround(ctx); err != nil {
		return err
	}
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
		if err := d.checkContainer(ctx, &wrong, name, c, record, look(name)); err != nil {
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
	if err := d.checkForeign(ctx, &wrong, inventories, deep); err != nil {
		return err
	}
	if deep && len(wrong) == 0 {
		if err := d.checkContents(ctx, &wrong, inventories); err != nil {
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

// checkContainer compares a container's record, instance and, with look, files.
func (d *driver) checkContainer(ctx context.Context, wrong *findings, name string, c *container, record store.Container, look bool) error {
	if record.Status != c.status {
		wrong.add("%s is %s (%s), want %s", name, record.Status, record.FailureReason, c.status)
	}
	if record.ServerID != d.servers[c.server].id || record.SourceContainerID != d.ids[c.source] {
		wrong.add("%s is on %s, a copy of %q", name, record.ServerID, record.SourceContainerID)
	}
	if len(record.PendingFreezes) > 0 || record.JobID != "" {
		wrong.add("%s is held by job %q, claimed by %v", name, record.JobID, record.PendingFreezes)
	}
	if c.status == store.StatusFailed {
		return d.checkFailed(ctx, wrong, name, c, record)
	}
	s := d.servers[c.server]
	instance := agent.InstanceName(record.ID)
	if look {
		found, err := readFiles(ctx, s.pool, agent.InstanceDataset(instance))
		if err != nil {
			wrong.add("%s: its files cannot be read: %v", name, err)
			return nil
		}
		if diff := difference(found, c.files); diff != "" {
			wrong.add("%s: %s", name, diff)
		}
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

// checkFailed makes sure that nothing is left of a copy that was cancelled but its record.
func (d *driver) checkFailed(ctx context.Context, wrong *findings, name string, c *container, record store.Container) error {
	s, instance := d.servers[c.server], agent.InstanceName(record.ID)
	if _, err := s.runtime.Instance(ctx, instance); !errors.Is(err, errdefs.ErrNotFound) {
		wrong.add("%s was cancelled and has an instance (%v)", name, err)
	}
	if _, err := s.pool.Dataset(ctx, agent.InstanceDataset(instance)); !errors.Is(err, errdefs.ErrNotFound) {
		wrong.add("%s was cancelled and has files (%v)", name, err)
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
		if s.alias != nil && *s.alias != aliasOf(found) {
			wrong.add("%s: snapshot %s goes by %q, want %q", name, s.name, aliasOf(found), *s.alias)
		}
		_, there := held[found.GUID]
		d.checkMissing(wrong, name, c, s, found, there)
	}
	for other, found := range listed {
		// That a snapshot was deleted went with the store; what was kept of it for others is listed again.
		if at := d.commitOf(found.GUID); d.model.recovered && at != nil && strings.HasPrefix(other, "recovered-") {
			c.list(snapshot{name: other, at: at})
			continue
		}
		wrong.add("%s lists %s and should not", name, other)
	}
}

// commitOf is the commit that a snapshot is of, nil for one that was never listed.
func (d *driver) commitOf(guid lineage.GUID) *commit {
	for at, known := range d.guids {
		if known == guid {
			return at
		}
	}
	return nil
}

func aliasOf(s store.Snapshot) string {
	if s.Alias == nil {
		return ""
	}
	return *s.Alias
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

// checkContents looks into every snapshot that some container lists.
func (d *driver) checkContents(ctx context.Context, wrong *findings, inventories []lineage.Inventory) error {
	type place struct {
		server int
		guid   lineage.GUID
	}
	seen := make(map[place]bool)
	for _, name := range slices.Sorted(maps.Keys(d.model.containers)) {
		c := d.model.containers[name]
		for _, s := range c.snapshots {
			at := place{c.server, d.guids[s.at]}
			if seen[at] || s.missing {
				continue
			}
			seen[at] = true
			found, err := d.lookInto(ctx, d.servers[c.server].pool, inventories[c.server], at.guid)
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

// lookInto reads a snapshot's files. A collection may move it meanwhile.
func (d *driver) lookInto(ctx context.Context, pool agent.Pool, inventory lineage.Inventory, guid lineage.GUID) (map[string]string, error) {
	for attempt := 1; ; attempt++ {
		name, held := lineage.Locate(inventory)[guid]
		if !held {
			return nil, fmt.Errorf("snapshot %s is not in the pool", guid)
		}
		mount, err := pool.MountSnapshot(ctx, name)
		if err == nil {
			found, err := readDir(mount)
			return found, errors.Join(err, mount.Unmount(ctx))
		}
		if !errors.Is(err, errdefs.ErrNotFound) || attempt == 10 {
			return nil, err
		}
		if inventory, err = pool.Inventory(ctx); err != nil {
			return nil, err
		}
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
