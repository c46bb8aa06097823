package metrics

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// exported lists what queries may name: each series of a scrape in which everything has happened, with its labels.
func exported(t *testing.T) map[string]map[string]bool {
	t.Helper()
	families, err := busy(t).registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := make(map[string]map[string]bool)
	for _, family := range families {
		labels := map[string]bool{"instance": true, "job": true}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				labels[label.GetName()] = true
			}
		}
		series[family.GetName()] = labels
		if family.GetMetric()[0].GetHistogram() != nil {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				series[family.GetName()+suffix] = labels
			}
			labels["le"] = true
		}
	}
	return series
}

var (
	metricName = regexp.MustCompile(`\b(?:hoody_agent|process|go)_[a-z0-9_]+`)
	selector   = regexp.MustCompile(`\b((?:hoody_agent|process|go)_[a-z0-9_]+)\{([^}]*)\}`)
	labelName  = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
)

func checkQuery(t *testing.T, where, query string, series map[string]map[string]bool) {
	t.Helper()
	for _, name := range metricName.FindAllString(query, -1) {
		if series[name] == nil {
			t.Errorf("%s: no metric is called %s: %s", where, name, query)
		}
	}
	for _, match := range selector.FindAllStringSubmatch(query, -1) {
		for _, label := range labelName.FindAllStringSubmatch(match[2], -1) {
			if !series[match[1]][label[1]] {
				t.Errorf("%s: %s has no label %s: %s", where, match[1], label[1], query)
			}
		}
	}
}

// Every query of the dashboard names metrics and labels that the agent has.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("../../configs/grafana/hoody-agent.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			ID      int
			Type    string
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	series, queries, ids := exported(t), 0, make(map[int]bool)
	for _, panel := range dashboard.Panels {
		if ids[panel.ID] || panel.Title == "" || panel.Type != "row" && len(panel.Targets) == 0 {
			t.Errorf("panel %d %q: id used twice, no title or no query", panel.ID, panel.Title)
		}
		ids[panel.ID] = true
		for _, target := range panel.Targets {
			queries++
			checkQuery(t, panel.Title, target.Expr, series)
		}
	}
	if queries < 30 {
		t.Errorf("%d queries; the test looks in the wrong place", queries)
	}
	// What is exported and shown nowhere is of no use to anybody who watches.
	for name := range series {
		own := strings.HasPrefix(name, namespace) && !strings.HasSuffix(name, "_bucket") && !strings.HasSuffix(name, "_sum") && !strings.HasSuffix(name, "_count")
		if own && !strings.Contains(string(text), name) && name != namespace+"_copies" && name != namespace+"_store_mirror_stale" {
			t.Errorf("%s is on no panel", name)
		}
	}
}

// Every alert names metrics and labels that the agent has, and has its runbook.
func TestAlerts(t *testing.T) {
	text, err := os.ReadFile("../../configs/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("../../configs/prometheus/alerts_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	runbooks, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(text, &rules); err != nil {
		t.Fatal(err)
	}
	series, alerts := exported(t), 0
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			alerts++
			checkQuery(t, rule.Alert, rule.Expr, series)
			if !strings.Contains(string(runbooks), "\n### "+rule.Alert+"\n") || rule.Annotations["runbook"] != "docs/operations.md#"+strings.ToLower(rule.Alert) {
				t.Errorf("%s has no runbook in docs/operations.md", rule.Alert)
			}
			if strings.Count(string(tests), "alertname: "+rule.Alert+"\n") < 1 || strings.Count(string(tests), "alertname: "+rule.Alert+",") < 2 {
				t.Errorf("%s is not tested to fire, not too early, and to clear", rule.Alert)
			}
		}
	}
	if alerts == 0 {
		t.Error("no alerts; the test looks in the wrong place")
	}
}
