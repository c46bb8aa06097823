package zfs

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// listColumns is what the inventory asks `zfs list -Hp` for; parseEntry reads a line of it.
const listColumns = "name,type,guid,createtxg,creation,origin,used,referenced,defer_destroy,receive_resume_token"

// listTypes are the kinds of objects the inventory holds.
const listTypes = "filesystem,volume,snapshot,bookmark"

// entry is one line of the listing.
type entry struct {
	name       string // full
	kind       string // filesystem, volume, snapshot or bookmark
	guid       lineage.GUID
	createTXG  uint64
	creation   time.Time
	origin     string // full; empty for none
	used       uint64
	referenced uint64
	deferred   bool
	token      string
}

// parseEntry reads one line: columns divided by tabs, "-" where a column does not apply. Names hold no tabs.
func parseEntry(line string) (entry, error) {
	columns := strings.Split(line, "\t")
	if want := strings.Count(listColumns, ",") + 1; len(columns) != want {
		return entry{}, fmt.Errorf("zfs list printed %d columns, not %d: %q: %w", len(columns), want, line, errdefs.ErrInternal)
	}
	var failed error
	number := func(column string) uint64 {
		if column == "-" {
			return 0
		}
		n, err := strconv.ParseUint(column, 10, 64)
		if err != nil && failed == nil {
			failed = fmt.Errorf("zfs list: %w in %q: %w", err, line, errdefs.ErrInternal)
		}
		return n
	}
	e := entry{
		name:       columns[0],
		kind:       columns[1],
		guid:       lineage.GUID(number(columns[2])),
		createTXG:  number(columns[3]),
		creation:   time.Unix(int64(number(columns[4])), 0).UTC(), //nolint:gosec // seconds since 1970
		origin:     dash(columns[5]),
		used:       number(columns[6]),
		referenced: number(columns[7]),
		deferred:   columns[8] == "on",
		token:      dash(columns[9]),
	}
	return e, failed
}

// dash turns "-", which stands for no value, into an empty string.
func dash(column string) string {
	if column == "-" {
		return ""
	}
	return column
}

func (e entry) snapshot(name string) lineage.Snapshot {
	return lineage.Snapshot{
		Name:         name,
		GUID:         e.guid,
		CreateTXG:    e.createTXG,
		Creation:     e.creation,
		Referenced:   e.referenced,
		Used:         e.used,
		DeferDestroy: e.deferred,
	}
}

// listing assembles lines of zfs list and zfs get into datasets. It is for one listing, by one goroutine.
type listing struct {
	root     string
	datasets map[string]*lineage.Dataset // by full name
	guids    map[lineage.GUID]string     // of datasets: one that is met twice was renamed meanwhile
	newest   uint64                      // the highest transaction group of creation listed
	appeared map[string]bool             // full names of datasets that zfs get met and zfs list did not
	torn     string                      // why the listing does not show one moment; empty when it does
}

func newListing(root string) *listing {
	return &listing{
		root:     root,
		datasets: map[string]*lineage.Dataset{},
		guids:    map[lineage.GUID]string{},
		appeared: map[string]bool{},
	}
}

// addEntry takes a line of zfs list. ZFS prints a dataset before its snapshots and bookmarks.
func (l *listing) addEntry(line string) error {
	e, err := parseEntry(line)
	if err != nil {
		return err
	}
	l.newest = max(l.newest, e.createTXG)
	name, version, bookmark := splitVersion(e.name)
	if version == "" {
		l.addDataset(e)
		return nil
	}
	dataset := l.datasets[name]
	switch {
	case dataset == nil && name != l.root:
		l.torn = "snapshot or bookmark without its dataset: " + e.name
	case dataset == nil: // of the root itself, which is not ours
	case bookmark:
		dataset.Bookmarks = append(dataset.Bookmarks, lineage.Bookmark{Name: version, GUID: e.guid, CreateTXG: e.createTXG})
	default:
		dataset.Snapshots = append(dataset.Snapshots, e.snapshot(version))
	}
	return nil
}

func (l *listing) addDataset(e entry) {
	relative, below := strings.CutPrefix(e.name, l.root+"/")
	if !below {
		return
	}
	if other, twice := l.guids[e.guid]; twice {
		l.torn = "renamed meanwhile: " + other + " is " + e.name
		return
	}
	l.guids[e.guid] = e.name
	// An origin outside the root keeps its full name: better an unknown name than a wrong one.
	origin := strings.TrimPrefix(e.origin, l.root+"/")
	l.datasets[e.name] = &lineage.Dataset{
		Name:        relative,
		Volume:      e.kind == "volume",
		Origin:      origin,
		ResumeToken: e.token,
		Used:        e.used,
		Referenced:  e.referenced,
		Properties:  map[string]string{},
	}
}

// addProperty takes a line of `zfs get -H -o name,property,value`. A line of another form is the rest of a value with a newline in it, which we never
// write (checkProperty) and others may; it must not stop the inventory.
func (l *listing) addProperty(line string) {
	columns := strings.SplitN(line, "\t", 3)
	if len(columns) != 3 || !strings.HasPrefix(columns[0], l.root+"/") {
		return
	}
	dataset := l.datasets[columns[0]]
	switch {
	case dataset == nil:
		l.appeared[columns[0]] = true
	case strings.HasPrefix(columns[1], "hoody:"):
		dataset.Properties[columns[1]] = columns[2]
	}
}

// inventory returns what was listed: datasets by name, snapshots and bookmarks oldest first.
func (l *listing) inventory() lineage.Inventory {
	inventory := lineage.Inventory{Datasets: make([]lineage.Dataset, 0, len(l.datasets))}
	for _, dataset := range l.datasets {
		slices.SortStableFunc(dataset.Snapshots, func(a, b lineage.Snapshot) int {
			return cmp.Compare(a.CreateTXG, b.CreateTXG)
		})
		slices.SortStableFunc(dataset.Bookmarks, func(a, b lineage.Bookmark) int {
			return cmp.Compare(a.CreateTXG, b.CreateTXG)
		})
		inventory.Datasets = append(inventory.Datasets, *dataset)
	}
	slices.SortFunc(inventory.Datasets, func(a, b lineage.Dataset) int { return strings.Compare(a.Name, b.Name) })
	return inventory
}
