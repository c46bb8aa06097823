package zfs

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

const recorded = "testdata/2.3.9/"

// list239 is the recorded listing: a tree with a clone, a volume, a bookmark, a snapshot that is marked for destruction
// and one with a space in its name, and a partly received dataset.
func list239(t testing.TB) *listing {
	t.Helper()
	l := newListing("tank/zfstest")
	for line := range strings.Lines(readFile(t, recorded+"list.txt")) {
		if err := l.addEntry(strings.TrimSuffix(line, "\n")); err != nil {
			t.Fatal(err)
		}
	}
	for line := range strings.Lines(readFile(t, recorded+"get.txt")) {
		l.addProperty(strings.TrimSuffix(line, "\n"))
	}
	return l
}

func TestListing(t *testing.T) {
	l := list239(t)
	if l.torn != "" {
		t.Errorf("torn: %s", l.torn)
	}
	inventory := l.inventory()
	var names []string
	for _, dataset := range inventory.Datasets {
		names = append(names, dataset.Name)
	}
	want := []string{"containers", "containers/c1", "containers/c2", "hoody", "hoody/incoming", "hoody/incoming/j1", "volume"}
	if !reflect.DeepEqual(names, want) {
		t.Errorf("names %q", names)
	}
	c1, _ := inventory.Dataset("containers/c1")
	creation := time.Unix(1795291667, 0).UTC()
	if got, want := c1, (lineage.Dataset{
		Name: "containers/c1",
		Snapshots: []lineage.Snapshot{
			{Name: "hoody-1", GUID: 10145888123756461233, CreateTXG: 4445, Creation: creation, Referenced: 5272576},
			{Name: "with space", GUID: 12549005782296332178, CreateTXG: 4446, Creation: creation, Referenced: 5272576},
			{Name: "gone", GUID: 12620888021669518489, CreateTXG: 4450, Creation: creation, Referenced: 5272576, DeferDestroy: true},
		},
		Bookmarks:  []lineage.Bookmark{{Name: "base", GUID: 10145888123756461233, CreateTXG: 4445}},
		Used:       5272576,
		Referenced: 5272576,
		Properties: map[string]string{"hoody:role": "generation", "hoody:container": "01J", "hoody:note": "two words, one = sign"},
	}); !reflect.DeepEqual(got, want) {
		t.Errorf("c1\n%+v\nwant\n%+v", got, want)
	}
	if c2, _ := inventory.Dataset("containers/c2"); c2.Origin != "containers/c1@hoody-1" || len(c2.Properties) != 0 {
		t.Errorf("c2 %+v", c2)
	}
	if volume, _ := inventory.Dataset("volume"); !volume.Volume {
		t.Errorf("volume %+v", volume)
	}
	partial, _ := inventory.Dataset("hoody/incoming/j1")
	if point, err := decodeToken(partial.ResumeToken); err != nil || point.To != c1.Snapshots[0].GUID || point.Bytes != 0x1e1c48 {
		t.Errorf("token %+v, %v", point, err)
	}
}

func TestListingNoticesRenames(t *testing.T) {
	const line = "\tfilesystem\t77\t5\t1795291666\t-\t1\t1\t-\t-"
	for name, tear := range map[string]func(l *listing){
		"met twice": func(l *listing) { _ = l.addEntry("tank/zfstest/a" + line); _ = l.addEntry("tank/zfstest/b" + line) },
		"orphan": func(l *listing) {
			_ = l.addEntry("tank/zfstest/x@s" + strings.Replace(line, "filesystem", "snapshot", 1))
		},
	} {
		l := list239(t)
		if tear(l); l.torn == "" {
			t.Errorf("%s: not noticed", name)
		}
	}
	l := list239(t)
	l.addProperty("tank/zfstest/new\tcanmount\tnoauto")
	if !l.appeared["tank/zfstest/new"] || l.newest != 4455 {
		t.Errorf("appeared %v, newest %d", l.appeared, l.newest)
	}
	l = list239(t)
	l.addProperty("the rest of a value with a newline")
	l.addProperty("tank/other\tcanmount\toff")
	if l.torn != "" || len(l.appeared) > 0 {
		t.Errorf("torn by what is not ours: %s", l.torn)
	}
}

func TestParseEntryRefuses(t *testing.T) {
	for _, line := range []string{
		"", "tank", "tank\tfilesystem", strings.Repeat("\t", 20),
		"tank\tfilesystem\tx\t1\t1\t-\t1\t1\t-\t-",
		"tank\tfilesystem\t18446744073709551616\t1\t1\t-\t1\t1\t-\t-",
	} {
		if e, err := parseEntry(line); err == nil {
			t.Errorf("%q: %+v", line, e)
		}
	}
}

func FuzzListing(f *testing.F) {
	f.Add(readFile(f, recorded+"list.txt"), readFile(f, recorded+"get.txt"))
	f.Add("tank/zfstest/a\tvolume\t1\t1\t-1\ttank/other@s\t-\t-\ton\t1-0-0-\n", "tank/zfstest/a\thoody:x\ta\tb\n\n\t\t\n")
	f.Add("tank/zfstest/\tfilesystem\t1\t1\t1\t-\t1\t1\t-\t-\ntank/zfstest/@#\tsnapshot\t1\t1\t1\t-\t1\t1\t-\t-", "")
	f.Fuzz(func(t *testing.T, list, properties string) {
		l := newListing("tank/zfstest")
		for line := range strings.Lines(list) {
			if err := l.addEntry(strings.TrimSuffix(line, "\n")); err != nil {
				return
			}
		}
		for line := range strings.Lines(properties) {
			l.addProperty(strings.TrimSuffix(line, "\n"))
		}
		inventory := l.inventory()
		for i, dataset := range inventory.Datasets {
			if i > 0 && inventory.Datasets[i-1].Name >= dataset.Name {
				t.Errorf("%q before %q", inventory.Datasets[i-1].Name, dataset.Name)
			}
			for j := range dataset.Snapshots {
				if j > 0 && dataset.Snapshots[j-1].CreateTXG > dataset.Snapshots[j].CreateTXG {
					t.Errorf("snapshots of %q out of order", dataset.Name)
				}
			}
			for name := range dataset.Properties {
				if !strings.HasPrefix(name, "hoody:") {
					t.Errorf("property %q", name)
				}
			}
		}
	})
}
