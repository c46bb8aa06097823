//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// quiet are the panels that show nothing while nothing happens that they are there for, which no test provokes.
var quiet = map[string]string{
	"Degraded":                   "nothing is degraded",
	"Jobs that are not finished": "the sync may be over before a scrape sees it",
	"Failed attempts at phases":  "nothing fails",
	"Failures":                   "nothing fails",
	"Since the last failure, and the last success": "nothing fails",
	"Part of etcd's quota":                         "Debian's etcd does not tell its quota",
	"Written on sources since, the ten largest":    "it is looked up every ten minutes",
	"Removed, per day":                             "there may be no garbage",
}

// dashboard: every query of the dashboard gives data, from a Prometheus that has watched both agents since began.
func (s *story) dashboard(m monitor, began time.Time) {
	text, err := os.ReadFile(repository("configs/grafana/hoody-agent.json"))
	s.must(err)
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	s.must(json.Unmarshal(text, &dashboard))
	var asked []string
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			if quiet[panel.Title] == "" {
				asked = append(asked, strings.ReplaceAll(target.Expr, "$instance", ".*"))
			}
		}
	}
	all := len(asked)
	s.sync0Bytes("for what is counted per phase", s.remote, false) // the first of a kind only makes the series, which then has no rate
	s.collect(s.a)                                                 // for the time of the last collection
	s.collect(s.b)
	s.b.eventually(s.ctx, "data for every query of the dashboard", func() (err error) {
		asked = slices.DeleteFunc(asked, func(query string) bool {
			has, failed := m.hasData(query, began)
			if failed != nil {
				err = failed
			}
			return has
		})
		if err == nil && len(asked) > 0 {
			err = fmt.Errorf("none for %q", asked)
		}
		return err
	})
	s.t.Logf("%d queries of the dashboard give data; %d panels are quiet on purpose", all, len(quiet))
}

// hasData tells whether a query has given a number since then.
func (m monitor) hasData(query string, since time.Time) (bool, error) {
	var data struct {
		Result []struct{ Values [][2]any }
	}
	seconds := func(at time.Time) string { return fmt.Sprintf("%.3f", float64(at.UnixMilli())/1000) }
	err := m.get(m.t.Context(), "/api/v1/query_range", url.Values{"query": {query}, "start": {seconds(since)}, "end": {seconds(time.Now())}, "step": {"1"}}, &data)
	if err != nil {
		return false, err
	}
	for _, series := range data.Result {
		for _, value := range series.Values {
			if value[1] != "NaN" {
				return true, nil
			}
		}
	}
	return false, nil
}
