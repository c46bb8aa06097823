//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// figures prints what the story cost: the phases of every operation as the agents logged them, and the agents themselves.
func (s *story) figures() {
	for _, n := range s.nodes() {
		took := make(map[string][]time.Duration)
		for line := range strings.Lines(n.run(s.ctx, `journalctl -u hoody-agent --no-pager -o cat | grep '"phase done"' || true`)) {
			var entry struct {
				Kind  string `json:"kind"`
				Phase string `json:"phase"`
				Took  string `json:"took"`
			}
			start := strings.IndexByte(line, '{') // the journal's priority stands in front
			if start < 0 || json.Unmarshal([]byte(line[start:]), &entry) != nil {
				continue
			}
			if d, err := time.ParseDuration(entry.Took); err == nil {
				key := entry.Kind + " " + entry.Phase
				took[key] = append(took[key], d)
			}
		}
		var table []string
		for key, all := range took {
			slices.Sort(all)
			table = append(table, fmt.Sprintf("%-20s %3d times, median %6s, longest %6s", key, len(all),
				all[len(all)/2].Round(time.Millisecond), all[len(all)-1].Round(time.Millisecond)))
		}
		slices.Sort(table)
		s.t.Logf("%s: phases\n%s", n.Name(), strings.Join(table, "\n"))
		s.t.Logf("%s: agent: %s", n.Name(), n.run(s.ctx, `systemctl show -p MemoryCurrent,CPUUsageNSec,NRestarts hoody-agent | tr '\n' ' '; ps -o rss=,etime= -p $(systemctl show -p MainPID --value hoody-agent)`))
	}
}
