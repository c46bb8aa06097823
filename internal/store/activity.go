package store

import (
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// KindActivity is where a server notes which of its containers' files have changed: activities/<server>. One record per
// server: a write per container, every time one of them writes a file, would be the fleet's whole traffic.
const KindActivity Kind = "activities"

// Activity is what a server has seen of its containers' files.
type Activity struct {
	ServerID   string               `json:"server_id"`
	Containers map[string]FileState `json:"containers"` // by container id
}

// FileState is how a container's files looked last, and when they were last seen changed.
type FileState struct {
	Newest     lineage.GUID `json:"newest"`     // the dataset's newest snapshot
	Snapshots  string       `json:"snapshots"`  // changes when the set of its snapshots does
	Written    uint64       `json:"written"`    // bytes since the newest snapshot
	Referenced uint64       `json:"referenced"` // bytes in all
	ChangedAt  time.Time    `json:"changed_at"` // zero for never
}

// PutActivity writes the record; an unchanged one costs nothing.
func (tx *Tx) PutActivity(activity Activity) error {
	return putRecord(tx, KindActivity, activity.ServerID, activity)
}

// Activity returns what a server has seen of its containers' files; ok is false when the mirror has nothing.
func (m *Mirror) Activity(serverID string) (_ *Activity, ok bool) {
	return byID(m, serverID, func(c *content) *table[Activity] { return c.activities })
}
