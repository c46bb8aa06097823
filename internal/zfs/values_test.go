package zfs

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// recordedValues is what `zfs get -Hp -d1 -t … -s local,none -o name,property,value,source all` printed on OpenZFS 2.3.9, shortened.
const recordedValues = `p/a	type	filesystem	-
p/a	creation	1795719268	-
p/a	used	44544	-
p/a	referenced	1444864	-
p/a	origin	p/images/i@readonly	-
p/a	createtxg	978	-
p/a	guid	5944329556375788552	-
p/a	mountpoint	legacy	local
p/a	hoody:role	generation	local
p/a	hoody:note	two	words	local
p/a	hoody:text	first line
p/a	hoody:owner	somebody's	inherited from p
p/a@s	type	snapshot	-
p/a@s	creation	1795719269	-
p/a@s	used	22016	-
p/a@s	referenced	1444864	-
p/a@s	createtxg	999	-
p/a@s	guid	16122798719636436993	-
p/a@s	defer_destroy	on	-
p/a@s	clones	p/c1,p/c2	-
p/a@s	hoody:role	generation	local
p/a#b	type	bookmark	-
p/a#b	createtxg	900	-
p/a#b	guid	12914518550946935631	-
p/a/child	guid	7	-
`

func TestDatasetReadsOneCommand(t *testing.T) {
	p := fakePool(t, patient, map[string]string{"get": "print:" + recordedValues, "list": missing})
	got, err := p.Dataset(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	want := lineage.Dataset{
		Name: "a", Origin: "images/i@readonly", Used: 44544, Referenced: 1444864,
		Snapshots: []lineage.Snapshot{{
			Name: "s", GUID: 16122798719636436993, CreateTXG: 999, Creation: time.Unix(1795719269, 0).UTC(), Used: 22016, Referenced: 1444864, DeferDestroy: true,
		}},
		Bookmarks:  []lineage.Bookmark{{Name: "b", GUID: 12914518550946935631, CreateTXG: 900}},
		Properties: map[string]string{"hoody:role": "generation", "hoody:note": "two\twords"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n%+v\nwant\n%+v", got, want)
	}
}

func TestDatasetRefusesNonsense(t *testing.T) {
	p := fakePool(t, patient, map[string]string{"get": "print:" + strings.Replace(recordedValues, "5944329556375788552", "many", 1)})
	if got, err := p.Dataset(t.Context(), "a"); err == nil {
		t.Errorf("a GUID that is no number: %+v", got)
	}
}
