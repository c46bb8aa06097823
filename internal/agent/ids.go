package agent

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// newID makes a record id as the contract has it: 24 lower-case hex digits, beginning with the seconds of now.
func newID(now time.Time) string {
	id := newIDBytes(now)
	return hex.EncodeToString(id[:])
}

func newIDBytes(now time.Time) (id [12]byte) {
	binary.BigEndian.PutUint32(id[:], uint32(now.Unix()))
	mustRandom(id[4:])
	return id
}

// newJobID makes an operation id: 32 lower-case hex digits that sort by time.
func newJobID(now time.Time) string {
	id := ulid.MustNew(ulid.Timestamp(now), rand.Reader)
	return hex.EncodeToString(id[:])
}

// newSnapshotName makes the name of a snapshot that a container lists.
func newSnapshotName(now time.Time) string {
	return "hoody-" + strings.ToLower(ulid.MustNew(ulid.Timestamp(now), rand.Reader).String())
}

// newFreezeName and newMarkerName make the names of snapshots that only the agent needs; garbage collection tells them by it.
func newFreezeName(now time.Time) string { return newSnapshotName(now) + lineage.FreezeSuffix }
func newMarkerName(now time.Time) string { return newSnapshotName(now) + lineage.MarkerSuffix }

// agentMade tells whether a snapshot's name says that an agent made it.
func agentMade(snapshot string) bool { return strings.HasPrefix(snapshot, "hoody-") }

func randomColor() string {
	var rgb [3]byte
	mustRandom(rgb[:])
	return fmt.Sprintf("#%02X%02X%02X", rgb[0], rgb[1], rgb[2])
}

// normalizeColor gives an accepted colour the contract's form; an empty one becomes random.
func normalizeColor(color string) string {
	if color == "" {
		return randomColor()
	}
	return "#" + strings.ToUpper(strings.TrimPrefix(color, "#"))
}

var nameWords = [2][]string{
	{"amber", "brisk", "calm", "clear", "crisp", "eager", "early", "gentle", "keen", "lucid", "mellow", "noble", "quiet", "rapid", "solid", "vivid"},
	{"anchor", "beacon", "canyon", "cedar", "comet", "delta", "ember", "falcon", "harbor", "island", "lantern", "meadow", "orchid", "river", "summit", "willow"},
}

// randomName makes a container name; uniqueness is the transaction's business.
func randomName() string {
	return fmt.Sprintf("%s-%s-%04d", nameWords[0][randomInt(16)], nameWords[1][randomInt(16)], randomInt(10000))
}

func randomInt(below int64) int64 {
	n, err := rand.Int(rand.Reader, big.NewInt(below))
	if err != nil {
		panic("no randomness: " + err.Error()) // the platform guarantees it; there is nothing sane to do without
	}
	return n.Int64()
}

func mustRandom(b []byte) {
	if _, err := rand.Read(b); err != nil {
		panic("no randomness: " + err.Error()) // see randomInt
	}
}
