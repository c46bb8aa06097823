package agent

import "testing"

func TestJudgeStamp(t *testing.T) {
	for name, test := range map[string]struct {
		onPool string
		noted  int64
		want   string // code of the finding; empty for none
	}{
		"they belong together":           {"store/server/12", 12, ""},
		"the store was written first":    {"store/server/12", 15, ""},
		"no stamp on containers":         {"", 12, FindingPoolNotStamped},
		"another store":                  {"other/server/12", 12, FindingOtherStore},
		"an empty store":                 {"other/server/12", 0, FindingOtherStore},
		"another server's pool":          {"store/other/12", 12, FindingOtherServer},
		"a store put back":               {"store/server/12", 11, FindingRecordsOlder},
		"a store from before the server": {"store/server/12", 0, FindingRecordsOlder},
		"no revision":                    {"store/server", 12, FindingStampNotReadable},
		"no number":                      {"store/server/x", 12, FindingStampNotReadable},
		"nobody's":                       {"//3", 12, FindingStampNotReadable},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if found := judgeStamp(test.onPool, "store", "server", test.noted); found != nil {
				got = found.Code
				if found.Text == "" || found.Hint == "" {
					t.Error("the finding does not say what it is")
				}
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestStampReadsBackWhatItWrote(t *testing.T) {
	want := stamp{store: "a1", server: "b2", revision: 1 << 40}
	if got, err := parseStamp(want.String()); err != nil || got != want {
		t.Errorf("got %v, %v", got, err)
	}
}
